"""The cost of a run from shapes alone: what its steps make and keep, counted while they run without memory."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from charforge.adapter.lora import add_adapter, lora_config
from charforge.cost.live import LiveBytes
from charforge.cost.workload import Workload
from charforge.device import multiplies_bf16
from charforge.families.protocol import Family, Shapes, UnifiedModel
from charforge.judges.needs import judges_gib
from charforge.kinds import kinds_of_step
from charforge.machine import GIB
from charforge.sample import Noise, Part, Sample
from charforge.settings import GrpoSettings, Settings, SftSettings
from charforge.train.losses import Weights, draw_noise, noise_of, unified_gradient
from charforge.train.policy_gradient import clipped_loss, log_probabilities
from charforge.train.rollout import Step

# Around the tensors. Measured on a CPU (docs/log.md, 2026-11-24): the process after its imports; what glibc's heap
# holds beyond the tensors in use, of which a part grows with what the steps make and free. A CUDA context and the gaps
# of its allocator are an assumption, not measured.
IMPORTS_GIB, HEAP_GIB, HEAP_GAPS = 0.75, 0.25, 0.5
CUDA_CONTEXT_GIB, CUDA_GAPS = 0.6, 0.08
# on the host while a base is loaded onto a GPU: the largest tensor as it is read and as it is sent
LOADING_GIB = 2.2
OPTIMIZER_BYTES = {"adamw": 8, "adamw8bit": 2, "paged_adamw8bit": 2}


@dataclass(frozen=True)
class Cost:
    """Peaks in GiB and time. ``parts`` are GiB of the device that trains, at its fullest step, by what they are for.

    ``assumed`` says what the hours rest on.
    """

    gpu_peak_gib: float
    host_peak_gib: float
    disk_gib: float
    hours: float
    parts: dict[str, float] = field(default_factory=dict)
    fullest: str = ""
    assumed: str = ""


@dataclass(frozen=True)
class Speed:
    """Useful floating point operations a second, where the figure comes from, and seconds until a kernel is started. A
    step takes what is longer, computing or starting."""

    flops: float
    source: str
    start: float = 0.0


class Work(NamedTuple):
    """Of a phase: bytes at its peak, floating point operations, kernels that are started."""

    peak: float
    flops: float
    kernels: float


CPU_SPEED = Speed(1.6e11, "two cores of a server CPU with bf16, as measured")
PLAIN_CPU_SPEED = Speed(7.5e10, "two cores of a server CPU without bf16, as measured")
# Of an H200's peak while it computed a step, by what the base is held in, and seconds until a kernel was started,
# whatever its size: measured twice (docs/log.md, 2026-11-27), quantised with recomputed layers
GPU_PEAK = 165e12
GPU_SHARE = {None: 0.4, "int8": 0.225, "nf4": 0.285}
GPU_START = {None: 37e-6, "int8": 64e-6, "nf4": 64e-6}


def gpu_speed(quantize: str | None) -> Speed:
    """Of a card of 165 TFLOP/s, such as one of 24 GB."""
    share = GPU_SHARE[quantize]
    source = f"a card of 165 TFLOP/s in bf16, {100 * share:.0f} % of it in use: projected from steps on another card"
    return Speed(GPU_PEAK * share, source, GPU_START[quantize])


@dataclass(frozen=True)
class Texts:
    """Texts of given lengths in a family's own form. What markers a text has comes on top of its tokens."""

    family: Family
    shapes: Shapes

    def text(self, tokens: int, loss: bool = False, number: int | None = None) -> Part:
        """Texts without a number are the same: what a step shares is shared here too."""
        generator = None if number is None else torch.Generator().manual_seed(number)
        return self.family.random_text(self.shapes, tokens + self.shapes.text_marks, generator, loss)

    def conversation(self, number: int, system: int, before: int, reply: int) -> Sample:
        """A system prompt, what else stands before the reply, the reply."""
        own = (self.text(before, number=number), self.text(reply, loss=True))
        return (self.text(system), *own) if system else own

    def picture(self, tokens: int, caption: int) -> Sample:
        """A caption and its picture."""
        return self.text(caption), self.family.random_target(self.shapes, tokens, None)


def step_samples(texts: Texts, work: Workload, sft: SftSettings) -> tuple[list[Sample], list[Sample], Noise | None]:
    """What one step of Unified-SFT reads and draws: texts, noisy pictures and their noise."""
    read = [texts.conversation(number, *tokens) for number, tokens in enumerate(work.conversations, start=1)]
    draws = sum(sft.count(kind) for kind in kinds_of_step("picture", studying=False)) * sft.draws
    pictures = [texts.picture(work.targets[index % len(work.targets)], work.caption) for index in range(draws)]
    noise = draw_noise(pictures, sft.timestep_shift, torch.Generator().manual_seed(0)) if pictures else None
    return read, pictures, noise


def first_stage_step(model: UnifiedModel, texts: Texts, work: Workload, settings: Settings, frozen: int) -> Work:
    """One step of Unified-SFT in the pieces it would run in.

    What the first ``frozen`` layers make of texts is there already.
    """
    sft, size, chunk = settings.sft, settings.memory.micro_batch, settings.memory.logits_chunk
    read, pictures, noise = step_samples(texts, work, sft)
    if frozen:
        read = model.read_frozen_layers(read, frozen)
    weights, peaks, flops, kernels = Weights(sft.ce_weight, sft.mse_weight), [0], 0.0, 0.0
    # a piece of each kind: the others are like them
    both: list[tuple[list[Sample], list[Sample]]] = [(read[:size], []), ([], pictures[:size])]
    for whole, (some, drawn) in zip((read, pictures), both, strict=True):
        if some or drawn:
            part = noise_of(noise, pictures, range(len(drawn))) if noise is not None and drawn else None
            with LiveBytes() as tally:
                unified_gradient(model, some, drawn, part, weights, size, chunk, sft.context_gradients)
            peaks.append(tally.peak)
            flops += tally.flops * len(whole) / len(some or drawn)
            kernels += tally.kernels * math.ceil(len(whole) / size)
    return Work(max(peaks), flops, kernels)


def second_stage(model: UnifiedModel, texts: Texts, work: Workload, grpo: GrpoSettings) -> tuple[Work, Work]:
    """A sampling step of one piece of a rollout, and a backward pass of as many pictures."""
    pictures, canvas = min(grpo.micro_batch, grpo.prompts * grpo.group), model.canvas(grpo.side)
    with torch.no_grad():
        prompts = model.read([(texts.text(work.caption),)] * pictures)
    states, times = torch.zeros(pictures, *canvas.shape), torch.full((pictures,), 0.7)
    with torch.no_grad(), LiveBytes() as rolling:
        model.denoiser(prompts, canvas).velocity(states, times)
    rows = torch.arange(pictures)
    step = Step(rows, states, states, times, times * 0.9, torch.zeros(pictures), torch.ones(pictures))
    with LiveBytes() as updating:
        # the prompts are one a picture here
        log_ratio = log_probabilities(model.denoiser(prompts, canvas), step, rows, grpo, second=0.9)
        clipped_loss(log_ratio, torch.ones(pictures), grpo.clip_range).mean().backward()
    return work_of(rolling), work_of(updating)


def work_of(tally: LiveBytes) -> Work:
    """What was counted."""
    return Work(tally.peak, tally.flops, tally.kernels)


def decoding(model: UnifiedModel) -> Work:
    """One picture from its state."""
    canvas = model.canvas()
    with LiveBytes() as tally:
        model.decode(torch.zeros(1, *canvas.shape), canvas)
    return work_of(tally)


def layers_measured(shapes: Shapes, twice: bool) -> tuple[Shapes, Shapes, float]:
    """Two shallow models of the same widths, and how far the real one is beyond the first in steps of their distance.

    Layers are alike, or repeat a pattern, so memory and work grow evenly with their number: the depth need not be run.
    ``twice``: layers are computed again on the way back; one of them stands out of the line then, because nothing is
    kept beside it.
    """
    few, more = (min(shapes.layers, count * shapes.period) for count in ((2, 4) if twice else (1, 2)))
    return shapes.shallow(few), shapes.shallow(more), (shapes.layers - few) / max(1, more - few)


def phases_of(
    family: Family, shapes: Shapes, settings: Settings, work: Workload, device: str, dtype: torch.dtype, frozen: int
) -> Phases:
    """What the steps of both stages take with a model of the depth of ``shapes``, ``frozen`` layers without adapter."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    lora = lora_config(shapes, settings.adapter.rank, settings.adapter.alpha, first_layer=frozen)
    adapt = partial(add_adapter, config=lora, seed=0)
    made, texts = family.stand_in(shapes, settings.quantize, adapt, dtype, fake), Texts(family, shapes)
    made.model.recompute_layers = settings.memory.checkpoint_layers
    with nullcontext() if device == "cpu" else family.as_on_a_gpu(), made.model.autocast():
        steps = {"first stage": first_stage_step(made.model, texts, work, settings, frozen)}
        if settings.grpo.iterations > 0:
            steps["rollout"], steps["update"] = second_stage(made.model, texts, work, settings.grpo)
    steps["decoding"] = decoding(made.model)
    return Phases(made.weights, made.encoders, made.adapter, steps)


@dataclass(frozen=True)
class Phases:
    """Bytes of weights, encoders and adapter, and the work of each phase."""

    weights: float
    encoders: float
    adapter: float
    steps: dict[str, Work]

    def moved(self, start: Phases, end: Phases, times: float) -> Phases:
        """These figures and ``times`` what leads from ``start`` to ``end``: each figure grows along a straight line."""

        def on(own: float, a: float, b: float) -> float:
            return own + (b - a) * times

        steps = {
            name: Work(*(on(*values) for values in zip(own, start.steps[name], end.steps[name], strict=True)))
            for name, own in self.steps.items()
        }
        return Phases(
            on(self.weights, start.weights, end.weights),
            self.encoders,
            on(self.adapter, start.adapter, end.adapter),
            steps,
        )


def predict(
    family: Family, shapes: Shapes, settings: Settings, work: Workload, device: str, dtype: torch.dtype
) -> Cost:
    """Peaks and hours of a run on ``device`` ("cpu" or "cuda") with the base held in ``dtype`` or quantised."""
    few, more, times = layers_measured(shapes, settings.memory.checkpoint_layers)
    phases, deeper = (phases_of(family, one, settings, work, device, dtype, 0) for one in (few, more))
    phases = phases.moved(phases, deeper, times)
    if frozen := settings.adapter.first_layer(shapes.layers):
        phases = phases.moved(deeper, phases_of(family, more, settings, work, device, dtype, 1), frozen)
    steps = phases.steps
    fullest = max(steps, key=lambda name: steps[name].peak)
    second = settings.grpo.iterations > 0
    judges = judges_gib(settings.reward) if second else 0.0
    parked = settings.memory.park_encoders and fullest != "decoding"
    parts = {
        "weights": phases.weights / GIB,
        "encoders": 0.0 if parked else phases.encoders / GIB,
        "adapter": phases.adapter / GIB,
        "optimiser": phases.adapter / 4 * OPTIMIZER_BYTES[settings.memory.optimizer] / GIB,
        # the adapter's gradients are among them: each step makes them
        "activations": steps[fullest].peak / GIB,
        "judges": 0.0 if settings.reward.on_cpu else judges,
    }
    on_cpu = device == "cpu"
    gaps = HEAP_GIB + HEAP_GAPS * parts["activations"] if on_cpu else CUDA_GAPS * sum(parts.values())
    parts |= {"allocator": gaps, "runtime": IMPORTS_GIB if on_cpu else CUDA_CONTEXT_GIB}
    peak = sum(parts.values())
    host = peak if on_cpu else IMPORTS_GIB + LOADING_GIB + (judges if settings.reward.on_cpu else 0.0)
    native = CPU_SPEED if dtype == torch.bfloat16 else PLAIN_CPU_SPEED
    speed = native if on_cpu else gpu_speed(settings.quantize)
    return Cost(
        gpu_peak_gib=0.0 if on_cpu else round(peak, 2),
        host_peak_gib=round(host, 2),
        disk_gib=round(disk_bytes(phases.adapter, second) / GIB, 2),
        hours=round(run_seconds(steps, settings, speed) / 3600, 2),
        parts={name: round(value, 3) for name, value in parts.items()},
        fullest=fullest,
        assumed=speed.source,
    )


def disk_bytes(adapter: float, second: bool) -> float:
    """A run folder: checkpoints (masters and two moments; the last and the best of each stage), adapter and bundle in
    bf16, pictures and pages.
    """
    return (6 if not second else 9) * adapter + adapter + 30_000_000


def run_seconds(steps: dict[str, Work], settings: Settings, speed: Speed) -> float:
    """Of a whole run; held-out measuring is taken as a seventh of what it follows."""
    seconds = {name: max(work.flops / speed.flops, work.kernels * speed.start) for name, work in steps.items()}
    total = settings.sft.steps * seconds["first stage"]
    if "rollout" in steps:
        grpo = settings.grpo
        pictures, size = grpo.prompts * grpo.group, min(grpo.micro_batch, grpo.prompts * grpo.group)
        drawn, learned = iteration_passes(grpo)
        drawing = drawn * seconds["rollout"] / size + pictures * seconds["decoding"]
        # judging reads about as much as drawing without guidance computes; the anchor is half an update more
        learning = learned * seconds["update"] / size
        total += grpo.iterations * (2 * drawing + 1.5 * learning)
    return 1.15 * total


def iteration_passes(grpo: GrpoSettings) -> tuple[float, float]:
    """Pictures that go through the model in an iteration of the second stage: to draw, and to learn, with a backward
    pass."""
    pictures = grpo.prompts * grpo.group
    learned = pictures * (2 * grpo.extremes / grpo.group if grpo.extremes else 1.0)
    if grpo.algorithm == "best_of":
        # with guidance
        return 2.0 * grpo.steps * pictures, float(grpo.updates * grpo.kept_pictures * grpo.draws)
    if grpo.algorithm == "awm":
        return float(grpo.steps * pictures), learned * grpo.draws
    # before their window siblings run as one
    alone = (1 + grpo.window_last_start) / 2
    after = grpo.window + grpo.tail if grpo.tail else grpo.steps - alone
    drawn = min(after, grpo.steps - alone) * pictures + alone * grpo.prompts
    # the policy that drew predicts too, forward alone
    return drawn, learned * (grpo.window if grpo.algorithm == "grpo" else 4 / 3 * grpo.draws)


def estimate(family: Family, shapes: Shapes, settings: Settings, work: Workload, device: str) -> Cost:
    """:func:`predict` for the type in which the base would be held there."""
    dtype = torch.bfloat16 if multiplies_bf16(device) else torch.float32
    return predict(family, shapes, settings, work, device, dtype)
