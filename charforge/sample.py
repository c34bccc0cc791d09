"""A training sample: parts in the order in which a model reads them, for training, replay, chat and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Part(Protocol):
    """A text or a picture in a family's own form."""

    @property
    def length(self) -> int:
        """How many tokens it has in the model, markers included."""

    @property
    def supervised(self) -> int:
        """How many of them have a label."""


@dataclass(frozen=True)
class Target:
    """A picture to learn to draw: tokens ``x0`` (n, values) and where each stands (n,), in its family's numbering."""

    x0: Tensor
    position_ids: Tensor

    @property
    def length(self) -> int:
        """Without markers, which are the family's."""
        return self.x0.shape[0]

    @property
    def supervised(self) -> int:
        """No text."""
        return 0


@dataclass(frozen=True)
class Picture:
    """One picture, prepared once: for drawing and for looking at."""

    target: Target
    look: Part


@dataclass(frozen=True)
class Noise:
    """One draw of the flow for some samples: times (samples,) and noise (all tokens of their targets, values)."""

    times: Tensor
    values: Tensor


Sample = tuple[Part, ...]


def target_of(sample: Sample) -> Target | None:
    """The picture that a sample teaches to draw, if it does."""
    return next((part for part in sample if isinstance(part, Target)), None)


def supervised_tokens(sample: Sample) -> int:
    """How many tokens of a sample have a label."""
    return sum(part.supervised for part in sample)


def stack_targets(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """All x0 tokens (sum n, values) in order and how many each sample has (samples,)."""
    targets = [target for sample in samples if (target := target_of(sample)) is not None]
    return torch.cat([t.x0 for t in targets]), torch.tensor([t.x0.shape[0] for t in targets])


def portions(tokens: Sequence[int], most: int) -> Iterator[range]:
    """Consecutive items that together hold at most ``most`` of ``tokens``, one item at least."""
    start = held = 0
    for index, count in enumerate(tokens):
        if index > start and held + count > most:
            yield range(start, index)
            start, held = index, 0
        held += count
    if len(tokens) > start:
        yield range(start, len(tokens))
