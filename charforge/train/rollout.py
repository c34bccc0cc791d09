"""Groups of pictures drawn with a few stochastic steps, and what is needed to learn from them.

All siblings of a group begin with the same noise and run as one row until their window of stochastic steps; from there
each goes its own way. A difference in reward is then due to steps that are trained (grpo-feasibility.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charforge.families.bagel.context import Canvas, Context, prepare_canvas, velocity
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.sampler import timestep_schedule
from charforge.flow import cps_step, log_probability, ode_step, sde_step
from charforge.settings import GrpoSettings
from charforge.train.losses import select_rows
from charforge.train.memory import pieces


@dataclass(frozen=True)
class Step:
    """One stochastic step of some rows, everything in fp32 on the CPU or the model's device.

    ``rows`` (k,) index the rollout's pictures; before, after (k, n, values); now, end and ``log_probability`` (k,).
    """

    rows: Tensor
    before: Tensor
    after: Tensor
    now: Tensor
    end: Tensor
    log_probability: Tensor


@dataclass(frozen=True)
class Rollout:
    """``latents`` (groups * size, n, values) group by group, the steps to learn from, each group's first step."""

    latents: Tensor
    steps: list[Step]
    starts: list[int]
    forwards: int
    """Pictures passed through the model, summed over the steps: what the rollout cost."""


def times_of(settings: GrpoSettings) -> Tensor:
    """The times of a rollout, ``settings.steps`` + 1 of them from 1 to 0."""
    return timestep_schedule(settings.steps + 1, settings.timestep_shift)


def transition(
    x: Tensor, step_velocity: Tensor, now: Tensor, end: Tensor, settings: GrpoSettings
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a stochastic step of the kind the settings ask for."""
    if settings.noise == "cps":
        return cps_step(x, step_velocity, now, end, settings.noise_level)
    return sde_step(x, step_velocity, now, end, settings.noise_level, float(times_of(settings)[1]))


def window_starts(groups: int, settings: GrpoSettings, generator: torch.Generator) -> list[int]:
    """The first stochastic step of each group, uniform over the positions the settings allow."""
    return torch.randint(0, settings.window_last_start + 1, (groups,), generator=generator).tolist()


@torch.no_grad()
def roll_out(
    model: BagelModel, contexts: Context, position_ids: Tensor, settings: GrpoSettings, generator: torch.Generator,
    at_a_time: int | None = None,
) -> Rollout:  # fmt: skip
    """Draw ``settings.group`` pictures for each row of ``contexts`` (one prompt a row) without guidance.

    All randomness is from ``generator`` (CPU). ``at_a_time`` pictures go through the model together (None: all).
    """
    groups, size, device = contexts.rows, settings.group, model.device
    shape = (position_ids.shape[0], model.config.latent_token_size)
    starts = window_starts(groups, settings, generator)
    times = times_of(settings).to(device)
    x = torch.randn(groups, *shape, generator=generator).to(device)
    owners = list(range(groups))
    canvases = _canvases(model, contexts, owners, position_ids, at_a_time)
    steps: list[Step] = []
    forwards = 0
    for index in range(settings.steps):
        branching = [start == index for start in starts]
        if any(branching):
            repeats = torch.tensor([size if branching[group] else 1 for group in owners])
            x = x.repeat_interleave(repeats.to(device), dim=0)
            owners = [group for group, count in zip(owners, repeats.tolist(), strict=True) for _ in range(count)]
            canvases = _canvases(model, contexts, owners, position_ids, at_a_time)
        now, end = times[index].expand(len(owners)), times[index + 1].expand(len(owners))
        counts = [canvas.context.rows for canvas in canvases]
        parts = zip(canvases, x.split(counts), now.split(counts), strict=True)
        predicted = torch.cat([velocity(model, *part).float() for part in parts])
        forwards += len(owners)
        moved = ode_step(x, predicted, now, end)
        rows = [row for row, group in enumerate(owners) if starts[group] <= index < starts[group] + settings.window]
        if rows:
            chosen = torch.tensor(rows, device=device)
            mean, deviation = transition(x[chosen], predicted[chosen], now[chosen], end[chosen], settings)
            after = mean + deviation * torch.randn(len(rows), *shape, generator=generator).to(device)
            moved[chosen] = after
            # groups that have not branched yet are single rows: find each picture's place in the finished rollout
            places = torch.tensor(_places(owners, rows, size), device=device)
            steps.append(
                Step(places, x[chosen], after, now[chosen], end[chosen], log_probability(after, mean, deviation))
            )
        x = moved
    return Rollout(x, steps, starts, forwards)


def _canvases(
    model: BagelModel, contexts: Context, owners: Sequence[int], position_ids: Tensor, at_a_time: int | None
) -> list[Canvas]:
    some = pieces(owners, at_a_time or len(owners))
    return [prepare_canvas(model, select_rows(contexts, rows), position_ids) for rows in some]


def _places(owners: Sequence[int], rows: Sequence[int], size: int) -> list[int]:
    first: dict[int, int] = {}
    for row, group in enumerate(owners):
        first.setdefault(group, row)
    return [owners[row] * size + row - first[owners[row]] for row in rows]
