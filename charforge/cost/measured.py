"""The measurements: a step of the first stage, drawing, a step of the second, each through the code that trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from charforge.bases.drawing import read_prompts
from charforge.cost.batches import batch_flops, batch_settings, make_dataset, plan_batch
from charforge.cost.meter import Meter, did_not_fit
from charforge.cost.peaks import forward_flops
from charforge.cost.profile import Profile, profile_step
from charforge.errors import MachineError
from charforge.families.protocol import Family, UnifiedModel
from charforge.families.results import Conditioning
from charforge.families.work import drawing_tokens
from charforge.settings import Settings
from charforge.train import grpo as second_stage
from charforge.train import sft as first_stage
from charforge.train.memory import Memory, memory_of_second_stage
from charforge.train.optimizers import make_optimizer
from charforge.train.rollout import Rollout, roll_out
from charforge.train.samples import Dataset

OK, DOES_NOT_FIT = "ok", "out of memory"
PROMPT_WORDS = 48
GUIDANCE_SCALE = 4.0


@dataclass(frozen=True)
class SftRow:
    """One optimiser step of Unified-SFT on ``tokens``; what was not measured is None and ``status`` says why."""

    tokens: int
    dialogues: int
    pictures: int
    picture_side: int
    status: str = OK
    step_s: float | None = None
    tokens_per_s: float | None = None
    peak_memory_gib: float | None = None
    mfu: float | None = None
    flops: float | None = None
    ce: float | None = None
    mse: float | None = None
    repeats: int = 0


@dataclass(frozen=True)
class RolloutRow:
    """Drawing ``batch`` pictures side by side. ``images_per_s`` is for ``steps`` steps, ``steps_run`` were timed.

    ``code`` is ``draw`` (every picture its own noise) or ``roll_out`` (a group that shares its start, as in training).
    """

    code: str
    batch: int
    guidance: bool
    picture_side: int
    steps: int
    steps_run: int
    status: str = OK
    images_per_s: float | None = None
    step_s: float | None = None
    peak_memory_gib: float | None = None
    mfu: float | None = None
    repeats: int = 0


@dataclass(frozen=True)
class UpdateRow:
    """One optimiser step of Character-GRPO on ``images`` pictures, the anchor left out.

    ``micro_batch`` is what fitted in the end. The sampling gap is the absolute difference between the log-probabilities
    of sampling's pass and the update's, before anything was learned: 0 where both compute the same bits.
    """

    images: int
    stochastic_steps: int
    picture_side: int
    status: str = OK
    step_s: float | None = None
    images_per_s: float | None = None
    peak_memory_gib: float | None = None
    micro_batch: int | None = None
    sampling_gap_mean: float | None = None
    sampling_gap_max: float | None = None
    repeats: int = 0


@dataclass(frozen=True)
class DecodeRow:
    """The autoencoder: latents of one drawing to pixels."""

    picture_side: int
    status: str = OK
    image_s: float | None = None
    peak_memory_gib: float | None = None


@dataclass(frozen=True)
class ReplyRow:
    """``rows`` replies of ``tokens`` tokens decoded side by side, each token read back as in a conversation."""

    rows: int
    tokens: int
    prompt_tokens: int
    status: str = OK
    tokens_per_s: float | None = None
    """Of all rows together."""
    token_s: float | None = None
    peak_memory_gib: float | None = None


@dataclass(frozen=True)
class Bench:
    """What every measurement needs. ``peak`` is the machine's FLOP/s."""

    family: Family
    model: UnifiedModel
    adapter: dict[str, nn.Parameter]
    settings: Settings
    meter: Meter
    peak: float
    repeats: int

    @property
    def side(self) -> int:
        return self.model.shapes.drawing_size[1]


Row = TypeVar("Row")


def fitting(bench: Bench, work: Callable[[], Row], otherwise: Row) -> Row:
    """What ``work`` returns, or ``otherwise`` where the memory ends; everything else that goes wrong is raised."""
    failed = False
    try:
        return work()
    except (torch.OutOfMemoryError, MachineError) as error:
        if not did_not_fit(error):
            raise
        failed = True
    # outside the handler: the error's traceback would keep alive what has to go
    assert failed
    for parameter in bench.adapter.values():
        parameter.grad = None
    bench.meter.reset()
    return otherwise


def measure_sft(bench: Bench, tokens: int) -> SftRow:
    """``train_step`` on a batch of ``tokens``."""
    model, shapes, settings = bench.model, bench.model.shapes, bench.settings
    batch = plan_batch(shapes, tokens)
    described = (batch.tokens, len(batch.dialogues), batch.pictures, batch.picture_side)
    flops = batch_flops(shapes, batch, settings.adapter.rank, settings.sft.context_gradients)

    def work() -> SftRow:
        data, sft = make_dataset(bench.family, shapes, batch), batch_settings(settings.sft, batch)
        memory = Memory(model, settings.memory)
        optimizer = first_stage.adamw(model, bench.adapter, sft, settings.memory.optimizer)
        logs: list[first_stage.StepLog] = []

        def step() -> None:
            parameters, number = list(bench.adapter.values()), len(logs)
            logs.append(first_stage.train_step(model, parameters, optimizer, data, sft, 0, number, memory))

        reading = bench.meter.measure(step, bench.repeats)
        return SftRow(
            *described,
            step_s=reading.seconds,
            tokens_per_s=batch.tokens / reading.seconds,
            peak_memory_gib=reading.peak_gib,
            mfu=flops / reading.seconds / bench.peak,
            flops=flops,
            ce=logs[-1].ce,
            mse=logs[-1].mse,
            repeats=reading.repeats,
        )

    return fitting(bench, work, SftRow(*described, status=DOES_NOT_FIT, flops=flops))


def _prompts(bench: Bench, count: int) -> Conditioning:
    prompt = " ".join(f"word{index}" for index in range(PROMPT_WORDS))
    return read_prompts(bench.model, [prompt] * count)


def measure_draw(bench: Bench, batch: int, guidance: bool, steps_run: int) -> RolloutRow:
    """``draw`` for ``batch`` prompts; with ``guidance`` every step also computes the velocity without text."""
    model, steps = bench.model, bench.settings.grpo.steps
    steps_run = min(steps_run, steps)
    described = ("draw", batch, guidance, bench.side, steps, steps_run)
    canvas, scale = model.canvas(), GUIDANCE_SCALE if guidance else 1.0

    def work() -> RolloutRow:
        prompts = _prompts(bench, batch)
        noise = torch.randn(batch, *canvas.shape, generator=torch.Generator().manual_seed(0)).to(model.device)

        def once() -> None:
            model.draw(prompts, noise, canvas, steps=steps_run, guidance=scale)

        with model.autocast():
            reading = bench.meter.measure(once, bench.repeats)
        step_s = reading.seconds / steps_run
        flops = _drawing_flops(bench, batch, prompts.tokens)
        if guidance:
            flops += _drawing_flops(bench, batch, 0)
        return RolloutRow(
            *described,
            images_per_s=batch / (step_s * steps),
            step_s=step_s,
            peak_memory_gib=reading.peak_gib,
            mfu=flops / step_s / bench.peak,
            repeats=reading.repeats,
        )

    return fitting(bench, work, RolloutRow(*described, status=DOES_NOT_FIT))


def _drawing_flops(bench: Bench, rows: int, context: int) -> float:
    """One step of ``rows`` pictures after ``context`` tokens."""
    shapes = bench.model.shapes
    return forward_flops(shapes, drawing_tokens(rows, shapes.drawing_tokens, context), bench.settings.adapter.rank)


def measure_rollout(bench: Bench) -> tuple[RolloutRow, Rollout | None]:
    """``roll_out`` of one group with all its steps, and what it drew (None where it does not fit)."""
    model, grpo = bench.model, bench.settings.grpo
    described = ("roll_out", grpo.group, False, bench.side, grpo.steps, grpo.steps)
    canvas = model.canvas()

    def work() -> tuple[RolloutRow, Rollout | None]:
        prompts = _prompts(bench, grpo.prompts)
        drawn: list[Rollout] = []

        def once() -> None:
            # the same seed each time: the window, and with it the work, stays where it is
            generator = torch.Generator().manual_seed(1)
            drawn[:] = [roll_out(model, prompts, canvas, grpo, generator, grpo.micro_batch)]

        with model.autocast():
            reading = bench.meter.measure(once, bench.repeats)
        flops = drawn[0].forwards * _drawing_flops(bench, 1, prompts.tokens)
        row = RolloutRow(
            *described,
            images_per_s=grpo.group * grpo.prompts / reading.seconds,
            step_s=reading.seconds / grpo.steps,
            peak_memory_gib=reading.peak_gib,
            mfu=flops / reading.seconds / bench.peak,
            repeats=reading.repeats,
        )
        return row, drawn[0]

    nothing: tuple[RolloutRow, Rollout | None] = (RolloutRow(*described, status=DOES_NOT_FIT), None)
    return fitting(bench, work, nothing)


def measure_update(bench: Bench, rollout: Rollout | None) -> UpdateRow:
    """``update`` with the policy gradient of all pictures of ``rollout`` at random advantages.

    Freezes the understanding expert's adapter, as the second stage does: measure the first stage before.
    """
    model, settings = bench.model, bench.settings
    grpo = settings.grpo
    described = (grpo.prompts * grpo.group, grpo.window, bench.side)
    if rollout is None:
        return UpdateRow(*described, status=DOES_NOT_FIT)
    parameters = list(second_stage.learn_from(model, bench.adapter).values())
    gains = torch.randn(described[0], generator=torch.Generator().manual_seed(0))

    def work() -> UpdateRow:
        prompts = _prompts(bench, grpo.prompts)
        memory = memory_of_second_stage(model, settings)
        optimizer = make_optimizer([{"params": parameters, "lr": 0.0}], memory.settings.optimizer, (0.9, 0.99))
        nothing = Dataset()
        told: list[second_stage.UpdateStatistics] = []

        def reward_gradient(size: int) -> second_stage.UpdateStatistics:
            return second_stage.policy_gradient(model, prompts, rollout, gains, range(grpo.prompts), grpo, size)

        def once() -> None:
            statistics, _ = second_stage.update(
                model, optimizer, parameters, nothing, settings, len(told), reward_gradient, memory
            )
            told.append(statistics)

        reading = bench.meter.measure(once, bench.repeats)
        return UpdateRow(
            *described,
            step_s=reading.seconds,
            images_per_s=described[0] / reading.seconds,
            peak_memory_gib=reading.peak_gib,
            micro_batch=min(memory.micro_batch, described[0]),
            sampling_gap_mean=told[0].gaps.abs().mean().item(),
            sampling_gap_max=told[0].gaps.abs().max().item(),
            repeats=reading.repeats,
        )

    return fitting(bench, work, UpdateRow(*described, status=DOES_NOT_FIT))


def measure_decode(bench: Bench) -> DecodeRow:
    """``decode`` of one drawing."""
    canvas = bench.model.canvas()

    def work() -> DecodeRow:
        states = torch.randn(1, *canvas.shape, generator=torch.Generator().manual_seed(0))
        reading = bench.meter.measure(lambda: bench.model.decode(states, canvas), bench.repeats)
        return DecodeRow(bench.side, image_s=reading.seconds, peak_memory_gib=reading.peak_gib)

    return fitting(bench, work, DecodeRow(bench.side, status=DOES_NOT_FIT))


def measure_reply(bench: Bench, rows: int, tokens: int) -> ReplyRow:
    """``reply`` to ``rows`` prompts; what it says does not matter, so that none of them ends early."""
    model = bench.model

    def work() -> ReplyRow:
        read, word = _prompts(bench, rows), model.reply_tokens("word")[0]

        def choose(logits: torch.Tensor) -> torch.Tensor:
            # the likeliest is found and read, as greedy decoding does, and the same word is said in its place
            return torch.full_like(logits.argmax(-1).cpu(), word)

        def once() -> None:
            for _ in model.reply(read, choose, tokens):
                pass

        with torch.no_grad(), model.autocast():
            reading = bench.meter.measure(once, bench.repeats)
        return ReplyRow(
            rows,
            tokens,
            read.tokens,
            tokens_per_s=rows * tokens / reading.seconds,
            token_s=reading.seconds / tokens,
            peak_memory_gib=reading.peak_gib,
        )

    return fitting(bench, work, ReplyRow(rows, tokens, PROMPT_WORDS, status=DOES_NOT_FIT))


def profile_first_stage(bench: Bench, tokens: int) -> Profile:
    """The kernels of one optimiser step of Unified-SFT on ``tokens``."""
    batch = plan_batch(bench.model.shapes, tokens)
    data, sft = make_dataset(bench.family, bench.model.shapes, batch), batch_settings(bench.settings.sft, batch)
    memory, parameters = Memory(bench.model, bench.settings.memory), list(bench.adapter.values())
    optimizer = first_stage.adamw(bench.model, bench.adapter, sft, bench.settings.memory.optimizer)

    def step() -> None:
        first_stage.train_step(bench.model, parameters, optimizer, data, sft, 0, 0, memory)

    return profile_step(step, bench.meter.device)
