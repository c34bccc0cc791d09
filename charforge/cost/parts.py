"""Memory by part: what shapes predict for each piece of work of ``charforge bench``, beside what was measured."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from charforge.adapter.lora import add_adapter, lora_config
from charforge.cost.batches import Batch, batch_settings
from charforge.cost.predicted import (
    OPTIMIZER_BYTES,
    Phases,
    Texts,
    Work,
    decoding,
    first_stage_step,
    layers_measured,
    second_stage,
)
from charforge.cost.workload import Workload
from charforge.families.protocol import Family, Shapes
from charforge.machine import GIB
from charforge.settings import Settings

SFT, ROLLOUT, UPDATE, DECODING = "first stage, {} tokens", "rollout at {}²", "update at {}²", "decoding at {}²"


@dataclass(frozen=True)
class Part:
    """GiB of one piece of work, all that is on the device included. ``measured`` is None where it did not fit."""

    part: str
    predicted_gib: float
    measured_gib: float | None
    ratio: float | None
    """Measured against predicted."""


def part(name: str, predicted: float, measured: float | None) -> Part:
    """``measured`` beside ``predicted``, with their ratio."""
    return Part(name, predicted, measured, None if measured is None else measured / predicted)


def workload_of(batch: Batch, caption: int) -> Workload:
    """The texts and pictures of ``batch``: a reply is what is supervised."""
    texts = tuple((0, tokens - supervised - 1, supervised + 1) for tokens, supervised in batch.dialogues)
    return Workload(texts, caption, (batch.picture_tokens,))


def predicted_peaks(
    family: Family, shapes: Shapes, settings: Settings, batches: list[Batch], side: int, caption: int,
    device: str, dtype: torch.dtype,
) -> dict[str, float]:  # fmt: skip
    """GiB of tensors at the peak of each piece of work: of steps of ``batches``, and of the second stage at ``side``.

    Without what an allocator and a runtime add. Layers are extrapolated as for a run, see ``layers_measured``.
    """
    few, more, times = layers_measured(shapes, settings.memory.checkpoint_layers)
    ends = [_phases(family, one, settings, batches, side, caption, device, dtype) for one in (few, more)]
    found = ends[0].moved(ends[0], ends[1], times)
    resting = found.weights + found.encoders + found.adapter
    moments = found.adapter / 4 * OPTIMIZER_BYTES[settings.memory.optimizer]
    peaks = {"weights": (found.weights + found.encoders) / GIB}
    for name, work in found.steps.items():
        learns = not name.startswith(("rollout", "decoding"))
        peaks[name] = (resting + work.peak + (moments if learns else 0.0)) / GIB
    return peaks


def _phases(
    family: Family, shapes: Shapes, settings: Settings, batches: list[Batch], side: int, caption: int,
    device: str, dtype: torch.dtype,
) -> Phases:  # fmt: skip
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    lora = lora_config(shapes, settings.adapter.rank, settings.adapter.alpha)
    made = family.stand_in(shapes, settings.quantize, partial(add_adapter, config=lora, seed=0), dtype, fake)
    model, texts = made.model, Texts(family, shapes)
    model.recompute_layers = settings.memory.checkpoint_layers
    steps: dict[str, Work] = {}
    with nullcontext() if device == "cpu" else family.as_on_a_gpu(), model.autocast():
        for batch in batches:
            own = settings.model_copy(update={"sft": batch_settings(settings.sft, batch)})
            steps[SFT.format(batch.tokens)] = first_stage_step(model, texts, workload_of(batch, caption), own, 0)
        model.use_picture_sizes(None, None, side, None)
        drawing = second_stage(model, texts, Workload((), caption, ()), settings.grpo)
        steps[ROLLOUT.format(side)], steps[UPDATE.format(side)] = drawing
        steps[DECODING.format(side)] = decoding(model)
    return Phases(made.weights, made.encoders, made.adapter, steps)
