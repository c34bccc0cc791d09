"""What the second, fake family of the tests is made of: its shapes, its network, and what it gives back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from charforge.errors import InputError
from charforge.families.protocol import Role
from charforge.low_rank import Chosen, choosing, chosen_now

if TYPE_CHECKING:
    from fake_family import FakeModel


PATCH = 4
MARKS = ("<system>", "<user>", "<assistant>", "<nobody>", "<end>", "<no prompt>", "<unknown>")
LEAST_TIME = 0.05


@dataclass(frozen=True)
class FakeShapes:
    """See the protocol. ``words`` are the vocabulary, marks first."""

    layers: int
    width: int
    side: int
    steps: int
    words: tuple[str, ...]
    precisions: tuple[str, ...] = ("bf16",)
    context_tokens: int = 256

    @property
    def drawing_size(self) -> tuple[int, int]:
        return self.side, self.side

    @property
    def drawing_settings(self) -> dict[str, Any]:
        return {"side": self.side, "steps": self.steps}

    @property
    def drawing_tokens(self) -> int:
        return (self.side // PATCH) ** 2

    @property
    def noise_scale(self) -> float:
        """Standard deviation of its noise."""
        return (self.drawing_tokens / 4) ** 0.5

    def with_picture_sizes(self, longest, shortest, side, steps) -> FakeShapes:
        if side is not None and side % PATCH:
            raise InputError(f"{side} pixels a side: this base draws multiples of {PATCH}")
        return replace(self, side=side or self.side, steps=steps or self.steps)

    def adapter_pattern(self, first_layer: int = 0, roles: Sequence[Role] = ("text", "picture")) -> str:
        names = [re.escape(name) for name in self.adapter_linears(first_layer) if self.role_of(name) in roles]
        return "|".join(names)

    def adapter_linears(self, first_layer: int = 0) -> dict[str, tuple[int, int]]:
        own = (self.width, self.width)
        read = {f"blocks.{layer}.read": own for layer in range(first_layer, self.layers)}
        return read | {f"blocks.{layer}.draw": own for layer in range(self.layers)}

    def role_of(self, name: str) -> Role:
        return "picture" if ".draw" in name else "text"


class Block(nn.Module):
    """Each token sees the mean of what came before; each patch the mean of all patches and what was read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read, self.draw = nn.Linear(width, width), nn.Linear(width, width)


class FakeNetwork(nn.Module):
    """Words, pixels and noised pixels through one stack of blocks."""

    def __init__(self, shapes: FakeShapes) -> None:
        super().__init__()
        width, values = shapes.width, 3 * PATCH**2
        self.words = nn.Embedding(len(shapes.words), width)
        self.see, self.paint, self.clock = nn.Linear(values, width), nn.Linear(values, width), nn.Linear(1, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(shapes.layers))
        self.speak, self.show = nn.Linear(width, len(shapes.words)), nn.Linear(width, values)


@dataclass(frozen=True)
class Words:
    """A text: the token of who speaks, its words, the end."""

    ids: tuple[int, ...]
    loss: bool

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def supervised(self) -> int:
        """All but the token of who speaks."""
        return len(self.ids) - 1 if self.loss else 0


@dataclass(frozen=True)
class Seen:
    """Patches (n, values) to look at."""

    patches: Tensor
    supervised: int = 0

    @property
    def length(self) -> int:
        return len(self.patches)


@dataclass(frozen=True)
class Read:
    """A row for each conversation: what each block has summed up (rows, blocks, width), and of how many tokens."""

    sums: Tensor
    counts: Tensor

    @property
    def rows(self) -> int:
        return len(self.counts)

    @property
    def tokens(self) -> int:
        return int(self.counts.max())

    def select(self, rows: Sequence[int]) -> Read:
        index = torch.tensor(rows, dtype=torch.long)
        return Read(self.sums[index], self.counts[index])


@dataclass(frozen=True)
class Sheet:
    """A canvas of so many patches a side."""

    side: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.side**2, 3 * PATCH**2


@dataclass(frozen=True)
class Said:
    """A step of a reply."""

    tokens: tuple[int | None, ...]


@dataclass(frozen=True)
class Drawn:
    """A step of a drawing."""

    done: int
    steps: int
    states: Tensor
    expected: Tensor


class Speakers:
    """See the protocol: what each has read lies in a row, and nothing has to be put together."""

    def __init__(self, model: FakeModel) -> None:
        self.model, self.read, self.kept = model, None, None
        self.acting: list[Chosen | None] = []

    @property
    def rows(self) -> int:
        return 0 if self.read is None else self.read.rows

    @property
    def logits(self) -> Tensor:
        return self.kept

    @torch.no_grad()
    def join(self, conditioning: Read, max_tokens: int) -> None:
        logits, read = self.model._next_logits(conditioning, torch.tensor([self.model.ids["<assistant>"]]))
        if self.read is not None:
            logits = torch.cat([self.kept, logits])
            read = Read(torch.cat([self.read.sums, read.sums]), torch.cat([self.read.counts, read.counts]))
        self.kept, self.read = logits, read
        self.acting.append(chosen_now())

    def leave(self, rows: Sequence[int]) -> None:
        stay = [row for row in range(self.rows) if row not in rows]
        self.acting = [self.acting[row] for row in stay]
        self.kept, self.read = (self.kept[stay], self.read.select(stay)) if stay else (None, None)

    @torch.no_grad()
    def feed(self, tokens: Tensor) -> None:
        said = []
        for row, chosen in enumerate(self.acting):
            with choosing(chosen):
                said.append(self.model._next_logits(self.read.select([row]), tokens[row : row + 1]))
        sums, counts = (torch.cat([getattr(read, name) for _, read in said]) for name in ("sums", "counts"))
        self.kept, self.read = torch.cat([logits for logits, _ in said]), Read(sums, counts)


@dataclass(frozen=True)
class Painter:
    """The protocol's velocity from a network that predicts pictures and counts time the other way."""

    model: FakeModel
    read: Read

    def velocity(self, states: Tensor, times: Tensor) -> Tensor:
        scale = self.model.shapes.noise_scale
        own = states.float() * scale
        picture = self.model.predict(self.read, own, 1 - times)
        return (own - picture) / (times.clamp(min=LEAST_TIME)[:, None, None] * scale)
