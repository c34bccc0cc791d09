"""The one place that turns a pair's parts into what the model reads, for training, replay, chat and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charforge.expand.pairs import Pair, TextPart
from charforge.families.bagel.splits import LatentSplit, LookSplit, Split, TextSplit
from charforge.families.bagel.tokenizer import Tokenizer


@dataclass(frozen=True)
class Target:
    """A picture to learn to draw: standardised latent tokens (n, values) and their table rows (n,)."""

    x0: Tensor
    position_ids: Tensor


@dataclass(frozen=True)
class Picture:
    """One picture, prepared once: for drawing and for looking at."""

    target: Target
    look: LookSplit


Sample = tuple[TextSplit | LookSplit | Target, ...]


def render(pair: Pair, tokenizer: Tokenizer, pictures: Mapping[str, Picture]) -> Sample:
    """A pair as the model reads it. Raises KeyError when it names a picture that is not there."""
    sample: list[TextSplit | LookSplit | Target] = []
    for part in pair.parts:
        if isinstance(part, TextPart):
            sample.append(tokenizer.text(part.text, part.role, part.loss))
        else:
            picture = pictures[part.image]
            sample.append(picture.target if part.use == "draw" else picture.look)
    return tuple(sample)


def target_of(sample: Sample) -> Target | None:
    """The picture that a sample teaches to draw, if it does."""
    return next((part for part in sample if isinstance(part, Target)), None)


def noised(sample: Sample, tokens: Tensor, timestep: float) -> list[Split]:
    """The sample with its target replaced by noised ``tokens`` (n, values) at ``timestep``."""
    return [LatentSplit(tokens, part.position_ids, timestep) if isinstance(part, Target) else part for part in sample]


def without_text(sample: Sample) -> Sample:
    """Caption dropout: only the pictures remain, and nothing advances (bagel.md section 4)."""
    return tuple(part for part in sample if not isinstance(part, TextSplit))


def stack_targets(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """All x0 tokens (sum n, values) in order and how many each sample has (samples,)."""
    targets = [target for sample in samples if (target := target_of(sample)) is not None]
    return torch.cat([t.x0 for t in targets]), torch.tensor([t.x0.shape[0] for t in targets])
