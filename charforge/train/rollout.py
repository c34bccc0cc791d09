"""Groups of pictures drawn with a few stochastic steps, and what is needed to learn from them.

All siblings of a group begin with the same noise and run as one row until their window of stochastic steps; from there
each goes its own way. A difference in reward is then due to steps that are trained (grpo-feasibility.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charforge.families.protocol import UnifiedModel
from charforge.families.results import Canvas, Conditioning, Denoiser
from charforge.flow import cps_step, log_probability, ode_step, sde_step
from charforge.settings import GrpoSettings
from charforge.train.memory import pieces


@dataclass(frozen=True)
class Step:
    """One stochastic step of some rows, in fp32 on the model's device.

    ``rows`` (k,) number the pictures of all groups, on the CPU: who belongs to whom is asked there, and a GPU is not
    waited for. before, after (k, n, values); now, end and ``log_probability`` (k,).
    """

    rows: Tensor
    before: Tensor
    after: Tensor
    now: Tensor
    end: Tensor
    log_probability: Tensor


@dataclass(frozen=True)
class Rollout:
    """The pictures of the ``groups`` that were drawn: ``latents`` (groups * size, n, values) group by group, the steps
    to learn from, each group's first step."""

    groups: Sequence[int]
    latents: Tensor
    steps: list[Step]
    starts: list[int]
    forwards: int
    """Pictures passed through the model, summed over the steps: what the rollout cost."""


def transition(
    x: Tensor, step_velocity: Tensor, now: Tensor, end: Tensor, settings: GrpoSettings, second: float
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a stochastic step of the kind the settings ask for; ``second`` is the rollout's
    second time."""
    if settings.noise == "cps":
        return cps_step(x, step_velocity, now, end, settings.noise_level)
    return sde_step(x, step_velocity, now, end, settings.noise_level, second)


def window_starts(groups: int, settings: GrpoSettings, generator: torch.Generator) -> list[int]:
    """The first stochastic step of each group, uniform over the positions the settings allow."""
    return torch.randint(0, settings.window_last_start + 1, (groups,), generator=generator).tolist()


@torch.no_grad()
def roll_out(
    model: UnifiedModel, prompts: Conditioning, canvas: Canvas, settings: GrpoSettings, generator: torch.Generator,
    at_a_time: int | None = None, own: Sequence[int] | None = None,
) -> Rollout:  # fmt: skip
    """Draw ``settings.group`` pictures for each row of ``prompts`` (one a row) without guidance; of the rows ``own``
    alone where they are given, each as it is drawn with all of them.

    All randomness is from ``generator`` (CPU), whose state afterwards does not depend on ``own``. ``at_a_time``
    pictures go through the model together (None: all).
    """
    own = range(prompts.rows) if own is None else own
    size, device, shape = settings.group, model.device, canvas.shape
    every = window_starts(prompts.rows, settings, generator)
    starts = [every[group] for group in own]
    schedule = model.times(settings.steps, settings.timestep_shift)
    second, times = float(schedule[1]), schedule.to(device)
    x = torch.randn(prompts.rows, *shape, generator=generator)[list(own)].to(device)
    prompts = prompts.select(list(own))
    # by their place in ``own``
    owners = list(range(len(own)))
    denoisers, counts = _denoisers(model, prompts, owners, canvas, at_a_time)
    steps: list[Step] = []
    forwards = 0
    for index in range(settings.steps):
        branching = [start == index for start in starts]
        if any(branching):
            origins = [row for row, group in enumerate(owners) for _ in range(size if branching[group] else 1)]
            x = x[torch.tensor(origins, device=device)]
            owners = [owners[row] for row in origins]
            denoisers, counts = _denoisers(model, prompts, owners, canvas, at_a_time)
        now, end = times[index].expand(len(owners)), times[index + 1].expand(len(owners))
        parts = zip(denoisers, x.split(counts), now.split(counts), strict=True)
        predicted = torch.cat([denoiser.velocity(states, at) for denoiser, states, at in parts])
        forwards += len(owners)
        moved = ode_step(x, predicted, now, end)
        inside = [group for group, start in enumerate(every) if start <= index < start + settings.window]
        noise = torch.randn(len(inside) * size, *shape, generator=generator).unflatten(0, (len(inside), size))
        rows = [row for row, group in enumerate(owners) if own[group] in inside]
        if rows:
            chosen = torch.tensor(rows, device=device)
            mean, deviation = transition(x[chosen], predicted[chosen], now[chosen], end[chosen], settings, second)
            mine = noise[[inside.index(group) for group in own if group in inside]].flatten(0, 1)
            after = mean + deviation * mine.to(device)
            moved[chosen] = after
            # groups that have not branched yet are single rows: find each picture's place in the finished rollout
            places = torch.tensor(_places(owners, own, rows, size))
            steps.append(
                Step(places, x[chosen], after, now[chosen], end[chosen], log_probability(after, mean, deviation))
            )
        x = moved
    return Rollout(own, x, steps, starts, forwards)


def _denoisers(
    model: UnifiedModel, prompts: Conditioning, owners: Sequence[int], canvas: Canvas, at_a_time: int | None
) -> tuple[list[Denoiser], list[int]]:
    """One for so many rows at a time, and how many rows each has."""
    some = list(pieces(owners, at_a_time or len(owners)))
    return [model.denoiser(prompts.select(rows), canvas) for rows in some], [len(rows) for rows in some]


def _places(owners: Sequence[int], own: Sequence[int], rows: Sequence[int], size: int) -> list[int]:
    first: dict[int, int] = {}
    for row, group in enumerate(owners):
        first.setdefault(group, row)
    return [own[owners[row]] * size + row - first[owners[row]] for row in rows]
