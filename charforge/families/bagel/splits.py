"""The items of a sample, in the order in which the model reads them (bagel.md section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from charforge.sample import Sample, Target


@dataclass(frozen=True)
class Trunk:
    """What the first ``layers`` layers of the understanding expert make of one split at its place in a sample.

    ``hidden`` (tokens of the split with its markers, H_u). Where no adapter touches these layers it never changes.
    """

    layers: int
    hidden: Tensor


@dataclass(frozen=True)
class TextSplit:
    """One text item ``bos ids eos``; with ``loss`` the positions of [bos, ids] predict [ids, eos].

    ``after_eos`` is what eos itself should predict (the published ``special_token_loss``), if anything. A piece of a
    longer text lacks bos unless it ``opens`` it, and eos unless it ``closes`` it.
    """

    ids: tuple[int, ...]
    loss: bool = False
    after_eos: int | None = None
    trunk: Trunk | None = field(default=None, compare=False)
    opens: bool = True
    closes: bool = True

    @property
    def length(self) -> int:
        """Tokens, markers included."""
        return len(self.ids) + self.opens + self.closes

    @property
    def supervised(self) -> int:
        """How many positions have a label: n + 1 for n tokens, the end is one too."""
        return len(self.ids) + 1 if self.loss else 0


def text_pieces(split: TextSplit, tokens: int) -> list[TextSplit]:
    """The text in pieces of so many tokens at most, markers aside: read one after the other they are the whole.

    Raises ValueError for a text that is learned, and for one whose lower layers have been read.
    """
    if split.loss or split.trunk is not None:
        raise ValueError("a text that is learned, or read in part, stays whole")
    starts = range(0, max(1, len(split.ids)), tokens)
    return [
        TextSplit(split.ids[start : start + tokens], opens=start == 0, closes=start == starts[-1]) for start in starts
    ]


@dataclass(frozen=True)
class LookSplit:
    """A picture for the vision tower: patches (n, patch^2*3) and their table rows (n,).

    ``features`` (n, H_u) is what the tower made of them, where that was computed before: it is frozen.
    """

    patches: Tensor
    position_ids: Tensor
    features: Tensor | None = None
    trunk: Trunk | None = field(default=None, compare=False)

    @property
    def length(self) -> int:
        """Tokens, markers included."""
        return self.position_ids.shape[0] + 2

    @property
    def supervised(self) -> int:
        """No text."""
        return 0


@dataclass(frozen=True)
class LatentSplit:
    """Latent tokens (n, values) at flow time ``timestep``; clean context when it is 0, otherwise noised."""

    tokens: Tensor
    position_ids: Tensor
    timestep: float = 0.0

    @property
    def length(self) -> int:
        """Tokens, markers included."""
        return self.position_ids.shape[0] + 2

    @property
    def supervised(self) -> int:
        """No text."""
        return 0

    @property
    def noised(self) -> bool:
        return self.timestep > 0


Split = TextSplit | LookSplit | LatentSplit
Mode = Literal["causal", "full", "noise"]


def splits_of(sample: Sample) -> list[Split]:
    """The parts of a sample that stand before the picture it teaches to draw. Raises TypeError for another family's."""
    splits: list[Split] = []
    for part in sample:
        if isinstance(part, TextSplit | LookSplit | LatentSplit):
            splits.append(part)
        elif not isinstance(part, Target):
            raise TypeError(f"{type(part).__name__} is no part of a BAGEL sample")
    return splits
