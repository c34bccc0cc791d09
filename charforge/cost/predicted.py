"""The cost of a run from shapes alone: what its steps make and keep, counted while they run without memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from charforge.adapter.lora import lora_config
from charforge.cost.live import LiveBytes
from charforge.cost.stand_in import autoencoder_stand_in, stand_in
from charforge.cost.workload import Workload
from charforge.device import multiplies_bf16
from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.context import Context, empty_context, extend_context, prepare_canvas, velocity
from charforge.families.bagel.images import unpatchify_latent
from charforge.families.bagel.layers import fused_everywhere, grid_position_ids
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.splits import TextSplit, Trunk
from charforge.families.bagel.vision import VisionTower
from charforge.machine import GIB
from charforge.sample import Sample, Target
from charforge.settings import GrpoSettings, Settings, SftSettings
from charforge.train.losses import Noise, Weights, draw_noise, noise_of, unified_gradient
from charforge.train.policy_gradient import clipped_loss, log_probabilities
from charforge.train.rollout import Step

# Around the tensors. Measured on a CPU (docs/log.md, 2026-11-24): the process after its imports; what glibc's heap
# holds beyond the tensors in use, of which a part grows with what the steps make and free. A CUDA context and the gaps
# of its allocator are an assumption, not measured.
IMPORTS_GIB, HEAP_GIB, HEAP_GAPS = 0.75, 0.25, 0.5
CUDA_CONTEXT_GIB, CUDA_GAPS = 0.6, 0.08
# on the host while a base is loaded onto a GPU: the largest tensor as it is read and as it is sent
LOADING_GIB = 2.2
JUDGES_GIB = {"efficientnet-lite0": 0.02, "dinov2": 0.35}
CLIP_GIB, PUBLISHED_GIB = 1.6, 3.0
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
    """Useful floating point operations a second, and where the figure comes from."""

    flops: float
    source: str


CPU_SPEED = Speed(1.6e11, "two cores of a server CPU with bf16, as measured")
PLAIN_CPU_SPEED = Speed(7.5e10, "two cores of a server CPU without bf16, as measured")
GPU_SPEED = Speed(6e13, "a card that computes 165 TFLOP/s in bf16, 36 % of it in use: assumed, not measured")


def _text(tokens: int, loss: bool = False, number: int = 0) -> TextSplit:
    """Texts of the same number begin alike: what a step shares, it shares here too."""
    return TextSplit((7, number)[: max(1, tokens)] + (7,) * (tokens - 2), loss=loss)


def _conversation(number: int, system: int, before: int, reply: int) -> Sample:
    own = (_text(before, number=number), _text(reply, loss=True))
    return (_text(system), *own) if system else own


def _picture(config: BagelConfig, tokens: int, caption: int) -> Sample:
    ids = torch.arange(tokens) % config.max_latent_size**2
    return _text(caption), Target(torch.zeros(tokens, config.latent_token_size), ids)


def step_samples(
    config: BagelConfig, work: Workload, sft: SftSettings
) -> tuple[list[Sample], list[Sample], Noise | None]:
    """What one step of Unified-SFT reads and draws: texts, noisy pictures and their noise."""
    texts = [_conversation(number, *tokens) for number, tokens in enumerate(work.conversations, start=1)]
    draws = (sft.pictures + sft.replay_pictures) * sft.draws
    pictures = [_picture(config, work.latents[index % len(work.latents)], work.caption) for index in range(draws)]
    noise = draw_noise(pictures, sft.timestep_shift, torch.Generator().manual_seed(0)) if pictures else None
    return texts, pictures, noise


def _with_trunk(sample: Sample, layers: int, model: BagelModel) -> Sample:
    width, dtype = model.config.understanding.hidden_size, model.vae2llm.weight.dtype
    return tuple(
        replace(part, trunk=Trunk(layers, torch.zeros(part.length, width, dtype=dtype)))
        if isinstance(part, TextSplit)
        else part
        for part in sample
    )


def first_stage_step(model: BagelModel, work: Workload, settings: Settings, frozen: int) -> tuple[float, float]:
    """Peak bytes and work of one step of Unified-SFT in the pieces it would run in.

    What the first ``frozen`` layers make of texts is there already.
    """
    sft, size, chunk = settings.sft, settings.memory.micro_batch, settings.memory.logits_chunk
    texts, pictures, noise = step_samples(model.config, work, sft)
    if frozen:
        texts = [_with_trunk(sample, frozen, model) for sample in texts]
    weights, peaks, flops = Weights(sft.ce_weight, sft.mse_weight), [0], 0.0
    # a piece of each kind: the others are like them
    both: list[tuple[list[Sample], list[Sample]]] = [(texts[:size], []), ([], pictures[:size])]
    for whole, (some, drawn) in zip((texts, pictures), both, strict=True):
        if some or drawn:
            part = noise_of(noise, pictures, range(len(drawn))) if noise is not None and drawn else None
            with LiveBytes() as tally:
                unified_gradient(model, some, drawn, part, weights, size, chunk, sft.context_gradients)
            peaks.append(tally.peak)
            flops += tally.flops * len(whole) / len(some or drawn)
    return max(peaks), flops


@torch.no_grad()
def _prompts(model: BagelModel, rows: int, tokens: int) -> Context:
    return extend_context(model, empty_context(rows), [_text(tokens)] * rows)


def second_stage(
    model: BagelModel, work: Workload, grpo: GrpoSettings
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Peak bytes and work of a sampling step of one piece of a rollout, and of a backward pass of as many pictures."""
    config, pictures = model.config, min(grpo.micro_batch, grpo.prompts * grpo.group)
    ids = grid_position_ids(*work.drawing, config.max_latent_size)
    contexts = _prompts(model, pictures, work.caption)
    latents, times = torch.zeros(pictures, len(ids), config.latent_token_size), torch.full((pictures,), 0.7)
    with torch.no_grad(), LiveBytes() as rolling:
        velocity(model, prepare_canvas(model, contexts, ids), latents, times)
    rows = torch.arange(pictures)
    step = Step(rows, latents, latents, times, times * 0.9, torch.zeros(pictures))
    with LiveBytes() as updating:
        # the contexts are one a picture here
        log_ratio = log_probabilities(model, prepare_canvas(model, contexts, ids), step, rows, grpo)
        clipped_loss(log_ratio, torch.ones(pictures), grpo.clip_range).mean().backward()
    return (rolling.peak, rolling.flops), (updating.peak, updating.flops)


def decoding(config: BagelConfig, work: Workload, fake: FakeTensorMode) -> tuple[int, LiveBytes]:
    """Weights of the autoencoder in bytes, and drawing one picture from its latent."""
    autoencoder, weights = autoencoder_stand_in(config, fake)
    rows, columns = work.drawing
    latent = unpatchify_latent(
        torch.zeros(rows * columns, config.latent_token_size), rows, columns, config.latent_patch_size
    )
    with torch.no_grad(), LiveBytes() as tally:
        autoencoder.decode(latent[None])
    return weights, tally


def judges_gib(settings: Settings) -> float:
    """Weights of the reward's encoders in fp32."""
    reward = settings.reward
    if reward.published:
        return PUBLISHED_GIB
    return JUDGES_GIB.get(reward.encoder, 0.35) + (CLIP_GIB if reward.clip else 0.0)


def layers_measured(config: BagelConfig, twice: bool) -> tuple[BagelConfig, BagelConfig, float]:
    """Two shallow models of the same widths, and how far the real one is beyond the first in steps of their distance.

    Layers are alike, so memory and work grow evenly with their number: the depth need not be run. Where only some
    layers draw, the pattern of the first ones is taken as it is. ``twice``: layers are computed again on the way back;
    one of them stands out of the line then, because nothing is kept beside it.
    """
    drawing = config.generation_layers
    period = 1 if drawing is None else config.layers // max(1, len(drawing))
    few, more = (min(config.layers, count * period) for count in ((2, 4) if twice else (1, 2)))

    def shallow(layers: int) -> BagelConfig:
        kept = None if drawing is None else tuple(layer for layer in drawing if layer < layers)
        return config.model_copy(update={"layers": layers, "generation_layers": kept})

    return shallow(few), shallow(more), (config.layers - few) / max(1, more - few)


def phases_of(
    config: BagelConfig, settings: Settings, work: Workload, device: str, dtype: torch.dtype, frozen: int
) -> Phases:
    """What the steps of both stages take with a model of ``config``'s depth and ``frozen`` layers without adapter."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    lora = lora_config(settings.adapter.rank, settings.adapter.alpha, first_layer=frozen)
    model, weights, adapter = stand_in(config, settings.quantize, lora, dtype, fake)
    model.language_model.model.checkpoint_layers = settings.memory.checkpoint_layers
    token = fused_everywhere.set(device != "cpu")
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            steps = {"first stage": first_stage_step(model, work, settings, frozen)}
            if settings.grpo.iterations > 0:
                steps["rollout"], steps["update"] = second_stage(model, work, settings.grpo)
    finally:
        fused_everywhere.reset(token)
    return Phases(weights, adapter, steps)


@dataclass(frozen=True)
class Phases:
    """Bytes of weights and adapter, and (peak bytes, flops) of each phase."""

    weights: float
    adapter: float
    steps: dict[str, tuple[float, float]]

    def moved(self, start: Phases, end: Phases, times: float) -> Phases:
        """These figures and ``times`` what leads from ``start`` to ``end``: each figure grows along a straight line."""

        def on(own: float, a: float, b: float) -> float:
            return own + (b - a) * times

        steps = {
            name: tuple(on(*values) for values in zip(own, start.steps[name], end.steps[name], strict=True))
            for name, own in self.steps.items()
        }
        return Phases(
            on(self.weights, start.weights, end.weights),
            on(self.adapter, start.adapter, end.adapter),
            steps,  # type: ignore[arg-type]
        )


def predict(config: BagelConfig, settings: Settings, work: Workload, device: str, dtype: torch.dtype) -> Cost:
    """Peaks and hours of a run on ``device`` ("cpu" or "cuda") with the base held in ``dtype`` or quantised."""
    few, more, times = layers_measured(config, settings.memory.checkpoint_layers)
    phases, deeper = (phases_of(shallow, settings, work, device, dtype, 0) for shallow in (few, more))
    phases = phases.moved(phases, deeper, times)
    if frozen := settings.adapter.first_layer(config.layers):
        phases = phases.moved(deeper, phases_of(more, settings, work, device, dtype, 1), frozen)
    autoencoder, tally = decoding(config, work, FakeTensorMode(allow_non_fake_inputs=True))
    steps = phases.steps | {"decoding": (tally.peak, tally.flops)}
    fullest = max(steps, key=lambda name: steps[name][0])
    second = settings.grpo.iterations > 0
    encoders = vision_weights(config, dtype) + autoencoder
    judges = judges_gib(settings) if second else 0.0
    parked = settings.memory.park_encoders and fullest != "decoding"
    parts = {
        "weights": (phases.weights - vision_weights(config, dtype)) / GIB,
        "encoders": 0.0 if parked else encoders / GIB,
        "adapter": phases.adapter / GIB,
        "optimiser": phases.adapter / 4 * OPTIMIZER_BYTES[settings.memory.optimizer] / GIB,
        # the adapter's gradients are among them: each step makes them
        "activations": steps[fullest][0] / GIB,
        "judges": 0.0 if settings.reward.on_cpu else judges,
    }
    on_cpu = device == "cpu"
    gaps = HEAP_GIB + HEAP_GAPS * parts["activations"] if on_cpu else CUDA_GAPS * sum(parts.values())
    parts |= {"allocator": gaps, "runtime": IMPORTS_GIB if on_cpu else CUDA_CONTEXT_GIB}
    peak = sum(parts.values())
    host = peak if on_cpu else IMPORTS_GIB + LOADING_GIB + (judges if settings.reward.on_cpu else 0.0)
    native = CPU_SPEED if dtype == torch.bfloat16 else PLAIN_CPU_SPEED
    speed = native if on_cpu else GPU_SPEED
    return Cost(
        gpu_peak_gib=0.0 if on_cpu else round(peak, 2),
        host_peak_gib=round(host, 2),
        disk_gib=round(disk_bytes(phases.adapter, second) / GIB, 2),
        hours=round(work_flops(steps, settings) / speed.flops / 3600, 2),
        parts={name: round(value, 3) for name, value in parts.items()},
        fullest=fullest,
        assumed=speed.source,
    )


def vision_weights(config: BagelConfig, dtype: torch.dtype) -> int:
    """Bytes of the vision tower."""
    with torch.device("meta"):
        return sum(p.numel() for p in VisionTower(config.vision).parameters()) * dtype.itemsize


def disk_bytes(adapter: float, second: bool) -> float:
    """A run folder: checkpoints (masters and two moments; the last and the best of each stage), adapter and bundle in
    bf16, pictures and pages.
    """
    return (6 if not second else 9) * adapter + adapter + 30_000_000


def work_flops(steps: dict[str, tuple[float, float]], settings: Settings) -> float:
    """Floating point operations of a whole run; held-out measuring is taken as a seventh of what it follows."""
    total = settings.sft.steps * steps["first stage"][1]
    if "rollout" in steps:
        grpo = settings.grpo
        pictures, size = grpo.prompts * grpo.group, min(grpo.micro_batch, grpo.prompts * grpo.group)
        # before their window siblings run as one
        alone = (1 + grpo.window_last_start) / 2
        passes = (grpo.steps - alone) * pictures + alone * grpo.prompts
        drawing = passes * steps["rollout"][1] / size + pictures * steps["decoding"][1]
        # judging reads about as much as drawing without guidance computes; the anchor is half an update more
        learning = grpo.window * steps["update"][1] * pictures / size
        total += grpo.iterations * (2 * drawing + 1.5 * learning)
    return 1.15 * total


def estimate(config: BagelConfig, settings: Settings, work: Workload, device: str) -> Cost:
    """:func:`predict` for the type in which the base would be held there."""
    return predict(config, settings, work, device, torch.bfloat16 if multiplies_bf16(device) else torch.float32)
