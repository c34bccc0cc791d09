"""The losses of a sample: cross-entropy on supervised text, flow-matching error on pictures (bagel.md section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from charforge.families.bagel.context import Context, empty_context, extend_context
from charforge.families.bagel.cross_entropy import linear_cross_entropy
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.packing import pack
from charforge.families.bagel.splits import LatentSplit, Split, splits_of
from charforge.flow import interpolate, target_velocity
from charforge.sample import Noise, Sample, Target, stack_targets, target_of


def text_loss(model: BagelModel, samples: Sequence[Sample], chunk: int = 1024) -> tuple[Tensor, int]:
    """Summed cross-entropy over the supervised tokens of text and VQA samples, and their number.

    Logits exist for supervised tokens only, and for ``chunk`` of them at a time: a vocabulary of 152 thousand makes a
    thousand rows half a gigabyte. What samples have in common at their beginning is read once.
    """
    batch = pack([splits_of(sample) for sample in samples], model.config, share=True).to(model.device)
    hidden = model(batch, head=False).logits
    return linear_cross_entropy(hidden, model.language_model.head_weight, batch.labels, chunk), batch.labels.numel()


def picture_loss(
    model: BagelModel, samples: Sequence[Sample], noise: Noise, prompt_gradients: bool = True
) -> tuple[Tensor, int]:
    """Squared velocity error summed over latent tokens (mean over values), and the number of tokens.

    With ``prompt_gradients`` all samples run as one pack. Without, what stands before a picture is read once without
    gradients, shared by repeats of the same sample, and only the drawing expert learns: cheaper, and exact in value
    because text never sees the latents after it.
    """
    x0, counts = stack_targets(samples)
    times = noise.times.repeat_interleave(counts)
    x_t = interpolate(x0, noise.values, times)
    pieces = x_t.split(counts.tolist())
    if prompt_gradients:
        splits = [_noised(s, piece, float(t)) for s, piece, t in zip(samples, pieces, noise.times, strict=True)]
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
    context = context.select(rows)
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
    texts = [splits_of(sample) for sample in samples]
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


def _noised(sample: Sample, tokens: Tensor, timestep: float) -> list[Split]:
    """The sample with its target replaced by noised ``tokens`` (n, values) at ``timestep``."""
    splits: list[Split] = []
    for part in sample:
        splits += [LatentSplit(tokens, part.position_ids, timestep)] if isinstance(part, Target) else splits_of((part,))
    return splits
