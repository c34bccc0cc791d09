"""What a loaded model gives back, as everything outside ``families/`` knows it: opaque things, and steps.

Part of the door of a family, whose conventions and methods are in ``protocol.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from torch import Tensor

    from charforge.sample import Part


class Conditioning(Protocol):
    """What was read before a picture or a reply, a row for each."""

    @property
    def rows(self) -> int:
        """How many."""

    @property
    def tokens(self) -> int:
        """Of the longest row, padding included: what it costs to keep a row."""

    def select(self, rows: Sequence[int]) -> Self:
        """Its rows picked, repeated or reordered."""


class Canvas(Protocol):
    """Where the tokens of a drawing stand."""

    @property
    def shape(self) -> tuple[int, int]:
        """(tokens, values) of a state."""


class Denoiser(Protocol):
    """A model after a conditioning, in front of a canvas."""

    def velocity(self, states: Tensor, times: Tensor) -> Tensor:
        """(rows, tokens, values) in fp32 of ``states`` (rows, tokens, values) at ``times`` (rows,); with gradients."""


class ReplyStep(Protocol):
    """One step of decoding."""

    @property
    def tokens(self) -> tuple[int | None, ...]:
        """What each row said, None for rows that have ended."""


class Speaking(Protocol):
    """Replies that are decoded side by side. Rows come and go between two tokens; the others go on undisturbed.

    What acts on the model when a row joins (charforge/low_rank.py) acts on that row until it leaves: rows of several
    characters speak side by side.
    """

    @property
    def rows(self) -> int:
        """How many speak."""

    @property
    def logits(self) -> Tensor:
        """(rows, vocabulary) of what each row says next. Raises ValueError while there is no row."""

    def join(self, conditioning: Any, max_tokens: int) -> None:
        """The assistant's turn after the one row of ``conditioning`` becomes the last row, with room for so many
        tokens."""

    def leave(self, rows: Sequence[int]) -> None:
        """These end; those behind them move up."""

    def feed(self, tokens: Tensor) -> None:
        """What each row said (rows,), on any device. Raises ValueError when the room of a row is used up."""


class DrawingStep(Protocol):
    """One step of a drawing."""

    @property
    def done(self) -> int:
        """How many steps are done, this one included."""

    @property
    def steps(self) -> int:
        """How many there are."""

    @property
    def states(self) -> Tensor:
        """(rows, tokens, values) after this step."""

    @property
    def expected(self) -> Tensor:
        """(rows, tokens, values): the picture at t = 0 as it looks from here, for a preview."""


@dataclass(frozen=True)
class Looked:
    """Pictures that were looked at once: as parts of samples, with all that is frozen computed, and as (n, width)
    features of length 1 for judging."""

    parts: tuple[Part, ...]
    features: Tensor
