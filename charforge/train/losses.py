"""The Unified-SFT loss: cross-entropy on supervised text plus flow-matching error on pictures (bagel.md section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charforge.families.bagel.context import Context, empty_context, extend_context
from charforge.families.bagel.cross_entropy import linear_cross_entropy
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.packing import pack
from charforge.families.bagel.splits import LatentSplit, Split, supervised_tokens
from charforge.flow import interpolate, logit_normal_timesteps, stratified_normal, target_velocity
from charforge.sample import Sample, Target, noised, stack_targets, target_of, without_text


@dataclass(frozen=True)
class Noise:
    """One draw of the flow for some samples: times (samples,) and noise (all latent tokens, values)."""

    times: Tensor
    values: Tensor


def draw_noise(samples: Sequence[Sample], shift: float, generator: torch.Generator) -> Noise:
    """Stratified logit-normal times, one a sample, and standard normal noise for its latents."""
    x0, counts = stack_targets(samples)
    times = logit_normal_timesteps(stratified_normal(len(counts), generator), shift)
    return Noise(times, torch.randn(x0.shape, generator=generator))


def text_loss(model: BagelModel, samples: Sequence[Sample], chunk: int = 1024) -> tuple[Tensor, int]:
    """Summed cross-entropy over the supervised tokens of text and VQA samples, and their number.

    Logits exist for supervised tokens only, and for ``chunk`` of them at a time: a vocabulary of 152 thousand makes a
    thousand rows half a gigabyte. What samples have in common at their beginning is read once.
    """
    splits = [[part for part in sample if not isinstance(part, Target)] for sample in samples]
    batch = pack(splits, model.config, share=True).to(model.device)
    hidden = model(batch, head=False).logits
    return linear_cross_entropy(hidden, model.language_model.head_weight, batch.labels, chunk), batch.labels.numel()


def picture_loss(
    model: BagelModel, samples: Sequence[Sample], noise: Noise, context_gradients: bool = True
) -> tuple[Tensor, int]:
    """Squared velocity error summed over latent tokens (mean over values), and the number of tokens.

    With ``context_gradients`` all samples run as one pack. Without, what stands before a picture is read once without
    gradients, shared by repeats of the same sample, and only the drawing expert learns: cheaper, and exact in value
    because text never sees the latents after it.
    """
    x0, counts = stack_targets(samples)
    times = noise.times.repeat_interleave(counts)
    x_t = interpolate(x0, noise.values, times)
    pieces = x_t.split(counts.tolist())
    if context_gradients:
        splits = [noised(s, piece, float(t)) for s, piece, t in zip(samples, pieces, noise.times, strict=True)]
        velocity = model(pack(splits, model.config).to(model.device)).velocity
    else:
        velocity = _velocity_after_context(model, samples, pieces, noise.times)
    error = (velocity.float() - target_velocity(x0, noise.values).to(velocity.device)).pow(2).mean(-1)
    return error.sum(), int(error.numel())


def _velocity_after_context(
    model: BagelModel, samples: Sequence[Sample], pieces: Sequence[Tensor], times: Tensor
) -> Tensor:
    """Velocity of each sample's picture, its text read once per distinct sample without gradients."""
    distinct: dict[int, int] = {}
    rows = [distinct.setdefault(id(sample), len(distinct)) for sample in samples]
    unique = {row: sample for sample, row in zip(samples, rows, strict=True)}
    with torch.no_grad():
        context = read_contexts(model, [unique[row] for row in range(len(unique))])
    context = select_rows(context, rows)
    splits: list[list[Split]] = []
    for sample, piece, time in zip(samples, pieces, times, strict=True):
        target = target_of(sample)
        assert target is not None
        splits.append([LatentSplit(piece, target.position_ids, float(time))])
    past = (context.valid, context.understanding_valid) if context.cache is not None else None
    batch = pack(splits, model.config, past, context.positions).to(model.device)
    return model(batch, context.cache).velocity


def read_contexts(model: BagelModel, samples: Sequence[Sample]) -> Context:
    """Everything before the pictures of ``samples``; a sample without text gets an empty, masked row."""
    texts = [[part for part in sample if not isinstance(part, Target)] for sample in samples]
    if not any(texts):
        return empty_context(len(samples))
    if any(len(parts) > 1 for parts in texts):
        raise ValueError("a picture's prompt is one text item here; set sft.context_gradients = true for longer ones")
    filler = next(parts for parts in texts if parts)
    context = extend_context(model, empty_context(len(texts)), [parts[0] if parts else filler[0] for parts in texts])
    present = torch.tensor([bool(parts) for parts in texts])
    return Context(
        context.cache,
        context.valid & present[:, None],
        context.understanding_valid & present[:, None],
        tuple(p if there else 0 for p, there in zip(context.positions, present.tolist(), strict=True)),
    )


def select_rows(context: Context, rows: Sequence[int]) -> Context:
    """The context with its rows picked, repeated or reordered."""
    index = torch.tensor(rows)
    cache = context.cache
    if cache is not None:
        device_index = index.to(cache[0][0].device)
        cache = [(k[device_index], v[device_index]) for k, v in cache]
    positions = tuple(context.positions[row] for row in rows)
    return Context(cache, context.valid[index], context.understanding_valid[index], positions)


def drop_captions(samples: Sequence[Sample], probability: float, generator: torch.Generator) -> list[Sample]:
    """Each sample with its text removed at ``probability``, for classifier-free guidance."""
    gone = (torch.rand(len(samples), generator=generator) < probability).tolist()
    return [without_text(sample) if drop else sample for sample, drop in zip(samples, gone, strict=True)]


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
    model: BagelModel, texts: Sequence[Sample], pictures: Sequence[Sample], noise: Noise | None, weights: Weights,
    size: int, chunk: int = 1024, context_gradients: bool = True,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Backward through both losses of one step, ``size`` samples at a time; returns their values (scalars).

    Means are over all tokens of the step, so neither depends on its share of the batch nor on ``size``.
    """
    ce = mse = torch.zeros((), device=model.device)
    supervised = sum(supervised_tokens(sample) for sample in texts)
    for start in range(0, len(texts), size):
        total, _ = text_loss(model, texts[start : start + size], chunk)
        (weights.ce * total / supervised).backward()
        ce = ce + total.detach() / supervised
    if pictures:
        assert noise is not None
        latents = noise.values.shape[0]
        for start in range(0, len(pictures), size):
            chosen = range(start, min(start + size, len(pictures)))
            own = pictures[chosen.start : chosen.stop]
            total, _ = picture_loss(model, own, noise_of(noise, pictures, chosen), context_gradients)
            (weights.mse * total / latents).backward()
            mse = mse + total.detach() / latents
    return ce, mse
