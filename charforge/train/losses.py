"""The Unified-SFT loss: cross-entropy on supervised text plus flow-matching error on pictures (bagel.md section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charforge.families.protocol import UnifiedModel
from charforge.flow import logit_normal_timesteps, stratified_normal
from charforge.sample import Noise, Sample, stack_targets, supervised_tokens
from charforge.train.team import ALONE, Team


def draw_noise(samples: Sequence[Sample], shift: float, generator: torch.Generator) -> Noise:
    """Stratified logit-normal times, one a sample, and standard normal noise for its latents."""
    x0, counts = stack_targets(samples)
    times = logit_normal_timesteps(stratified_normal(len(counts), generator), shift)
    return Noise(times, torch.randn(x0.shape, generator=generator))


def drop_captions(
    model: UnifiedModel, samples: Sequence[Sample], probability: float, generator: torch.Generator
) -> list[Sample]:
    """Each sample with its prompt dropped at ``probability``, for classifier-free guidance."""
    gone = (torch.rand(len(samples), generator=generator) < probability).tolist()
    return [model.without_prompt(sample) if drop else sample for sample, drop in zip(samples, gone, strict=True)]


def noise_of(noise: Noise, samples: Sequence[Sample], chosen: range) -> Noise:
    """The part of ``noise`` that belongs to the samples ``chosen`` of those it was drawn for."""
    _, counts = stack_targets(samples)
    first = int(counts[: chosen.start].sum())
    values = noise.values[first : first + int(counts[chosen.start : chosen.stop].sum())]
    return Noise(noise.times[chosen.start : chosen.stop], values)


@dataclass(frozen=True)
class Weights:
    """loss = ce * text + mse * pictures."""

    ce: float
    mse: float


def unified_gradient(
    model: UnifiedModel, texts: Sequence[Sample], pictures: Sequence[Sample], noise: Noise | None, weights: Weights,
    size: int, chunk: int = 1024, prompt_gradients: bool = True, team: Team = ALONE,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Backward through both losses of one step, ``size`` samples at a time; returns their values (scalars).

    Means are over all tokens of the step, so neither depends on its share of the batch nor on ``size``. Of a ``team``
    it is the part of this process, to be added to those of the others.
    """
    ce = mse = torch.zeros((), device=model.device)
    supervised = sum(supervised_tokens(sample) for sample in texts)
    mine = team.share(len(texts))
    for start in mine[::size]:
        total, _ = model.text_loss(texts[start : min(start + size, mine.stop)], chunk)
        (weights.ce * total / supervised).backward()
        ce = ce + total.detach() / supervised
        # with its graph go the inputs that products of bitsandbytes hold on to, also after a backward pass
        del total
    if pictures:
        assert noise is not None
        latents = noise.values.shape[0]
        mine = team.share(len(pictures))
        for start in mine[::size]:
            chosen = range(start, min(start + size, mine.stop))
            own = pictures[chosen.start : chosen.stop]
            total, _ = model.picture_loss(own, noise_of(noise, pictures, chosen), prompt_gradients)
            (weights.mse * total / latents).backward()
            mse = mse + total.detach() / latents
            del total
    return ce, mse
