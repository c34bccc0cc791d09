"""Unified-SFT: the loop. Everything random in step n comes from a generator seeded by (seed, n): a run that was
interrupted continues as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from charforge.families.protocol import Role, UnifiedModel
from charforge.sample import Sample
from charforge.settings import OptimizerKind, SftSettings
from charforge.train.checkpoints import load_checkpoint, save_checkpoint
from charforge.train.interrupt import Interruption
from charforge.train.losses import Weights, draw_noise, unified_gradient
from charforge.train.memory import Memory
from charforge.train.optimizers import make_optimizer
from charforge.train.samples import Dataset, step_batch, study_steps
from charforge.train.schedule import rate_factor
from charforge.train.team import ALONE, Team, TeamBroken


@dataclass(frozen=True)
class StepLog:
    """One line of ``metrics.jsonl``."""

    step: int
    ce: float
    mse: float
    gradient_norm: float
    rate_factor: float
    seconds: float


@dataclass(frozen=True)
class HeldOut:
    """Held-out losses at fixed noise and times. ``score`` is relative to the untrained adapter: lower is better."""

    step: int
    ce: float
    mse: float
    score: float


@dataclass(frozen=True)
class Hooks:
    """What the run does beside the loop: log a step, judge, preview. Called at the top of the loop's own pace."""

    on_step: Callable[[StepLog], None]
    on_held_out: Callable[[HeldOut, bool], None]
    on_preview: Callable[[int], None]


WITHIN_NOISE = 1.005
"""Of scores this close the later step is kept: a few held-out pairs cannot tell them apart, and it has seen more."""


def adamw(
    model: UnifiedModel, parameters: dict[str, nn.Parameter], settings: SftSettings, kind: OptimizerKind = "adamw"
) -> torch.optim.Optimizer:
    """AdamW with a rate of its own for each role: text overfits at rates at which pictures have barely begun.

    ``study`` multiplies it in the steps that study facts.
    """
    roles: dict[Role, list[nn.Parameter]] = {"text": [], "picture": []}
    for name, parameter in parameters.items():
        roles[model.shapes.role_of(name)].append(parameter)
    parts = [
        {"params": roles["text"], "lr": 0.0, "highest": settings.text_learning_rate, "study": settings.study_rate},
        {"params": roles["picture"], "lr": 0.0, "highest": settings.picture_learning_rate, "study": 1.0},
    ]
    groups = [part for part in parts if part["params"]]
    return make_optimizer(groups, kind, betas=(0.9, 0.95))


def train_step(
    model: UnifiedModel, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, data: Dataset,
    settings: SftSettings, seed: int, step: int, memory: Memory, team: Team = ALONE, stop: Interruption | None = None,
) -> StepLog:  # fmt: skip
    """One optimiser step, of a ``team`` on the sum of its gradients; ``stop`` learns whether a signal has reached any
    of its processes. Raises TeamBroken before anything has changed."""
    began = time.perf_counter()
    texts, pictures, noise = step_batch(model, data, settings, seed, step)
    weights, chunk = Weights(settings.ce_weight, settings.mse_weight), memory.settings.logits_chunk

    def work(size: int) -> tuple[Tensor, Tensor]:
        with model.autocast():
            return unified_gradient(
                model, texts, pictures, noise, weights, size, chunk, settings.context_gradients, team
            )

    ce, mse = memory.fit(work, parameters)
    ce, mse, asked = team.add_up(parameters, [ce, mse, torch.tensor(float(stop is not None and stop.requested))])
    if stop is not None:
        stop.agree(bool(asked > 0))
    norm = nn.utils.clip_grad_norm_(parameters, settings.clip)
    factor = rate_factor(step, settings.warmup, settings.steps)
    for group in optimizer.param_groups:
        group["lr"] = group["highest"] * factor * (group["study"] if step < study_steps(data, settings) else 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    # the figures are read before the clock: a GPU is still computing until then
    values = ce.item(), mse.item(), norm.item()
    return StepLog(step + 1, *values, factor, time.perf_counter() - began)


def held_out(model: UnifiedModel, data: Dataset, settings: SftSettings) -> tuple[float, float]:
    """Cross-entropy per token and flow error at fixed noise and eight fixed times per picture; nan where empty."""
    return held_out_text(model, data), flow_error(model, data.samples("held_out_pictures"), settings)


@torch.no_grad()
def held_out_text(model: UnifiedModel, data: Dataset) -> float:
    """Cross-entropy per token of the held-out texts; nan where there are none."""
    texts = data.samples("held_out_texts")
    if not texts:
        return math.nan
    with model.autocast():
        total, count = model.text_loss(texts)
    return total.item() / count


@torch.no_grad()
def flow_error(model: UnifiedModel, pictures: Sequence[Sample], settings: SftSettings) -> float:
    """Mean squared velocity error at fixed noise and eight fixed times per picture; nan where there are none."""
    if not pictures:
        return math.nan
    repeated = [sample for sample in pictures for _ in range(8)]
    noise = draw_noise(repeated, settings.timestep_shift, torch.Generator().manual_seed(20_061))
    with model.autocast():
        total, count = model.picture_loss(repeated, noise, prompt_gradients=False)
    return total.item() / count


def relative_score(ce: float, mse: float, start: tuple[float, float]) -> float:
    """Mean of the losses relative to their start, over those that exist."""
    ratios = [now / before for now, before in zip((ce, mse), start, strict=True) if not math.isnan(now)]
    return sum(ratios) / len(ratios) if ratios else math.nan


def train_sft(
    model: UnifiedModel, parameters: dict[str, nn.Parameter], data: Dataset, settings: SftSettings, seed: int,
    folder: Path, hooks: Hooks, memory: Memory | None = None, stop: Interruption | None = None, team: Team = ALONE,
) -> HeldOut:  # fmt: skip
    """Train to ``settings.steps``, resuming from ``folder/last.safetensors``; returns the best held-out result.

    ``folder/best.safetensors`` holds the adapter of the best held-out score, see ``WITHIN_NOISE``. Raises Interrupted,
    after a checkpoint, where ``stop`` was asked for. The processes of a ``team`` call this alike, on the same data; the
    first one alone measures, previews and writes. Raises TeamBroken, after a checkpoint, when one of them has ended.
    """
    memory, stop = memory or Memory(model), stop or Interruption()
    optimizer = adamw(model, parameters, settings, memory.settings.optimizer)
    optimizer.register_step_pre_hook(stop.changing)
    last, best_file = folder / "last.safetensors", folder / "best.safetensors"
    # whether all that belongs to the last step is done: its measurement, its preview
    step, judged = 0, True
    if last.exists():
        step, notes = load_checkpoint(last, parameters, optimizer)
        start = (float(notes["start_ce"]), float(notes["start_mse"]))  # type: ignore[arg-type]
        best, lowest = HeldOut(**notes["best"]), float(notes["lowest"])  # type: ignore[arg-type]
        judged = bool(notes["judged"])
    elif not team.writes:
        # its measurements are nobody's
        start = (math.nan, math.nan)
        best = HeldOut(0, *start, math.nan)
        lowest = math.nan
    else:
        # of a start that came to its first measurement, but to no checkpoint
        best_file.unlink(missing_ok=True)
        start = held_out(model, data, settings)
        best = HeldOut(0, *start, relative_score(*start, start))
        lowest = best.score
        hooks.on_held_out(best, True)

    def save() -> None:
        if not team.writes:
            return
        notes = {
            "start_ce": start[0], "start_mse": start[1], "best": asdict(best), "lowest": lowest, "judged": judged,
        }  # fmt: skip
        save_checkpoint(last, parameters, optimizer, step, notes)

    with stop.saving(save):
        while step < settings.steps or not judged:
            if judged:
                learned = list(parameters.values())
                try:
                    log = train_step(model, learned, optimizer, data, settings, seed, step, memory, team, stop)
                except TeamBroken:
                    # nothing of the step has been done yet
                    save()
                    raise
                step, judged = step + 1, False
                hooks.on_step(log)
                stop.settled()
            if not team.writes:
                judged = True
                stop.settled()
                continue
            if step % settings.preview_every == 0:
                hooks.on_preview(step)
            due = step % settings.evaluate_every == 0 or step == settings.steps
            losses = held_out(model, data, settings) if due else None
            stop.changing()
            if losses is not None:
                result = HeldOut(step, *losses, relative_score(*losses, start))
                lowest = min(lowest, result.score)
                # without held-out pairs every score is nan: then the last step is the best there is
                is_best = math.isnan(result.score) or result.score <= lowest * WITHIN_NOISE
                hooks.on_held_out(result, is_best)
                if is_best:
                    best = result
                    save_checkpoint(best_file, parameters, optimizer, step, {})
            judged = True
            if step % settings.checkpoint_every == 0 or step == settings.steps:
                save()
            stop.settled()
    return best
