"""Groups of pictures drawn with a few stochastic steps, and what is needed to learn from them.

All siblings of a group begin with the same noise and run as one row until their window of stochastic steps; from there
each goes its own way. A difference in reward is then due to steps that are trained (grpo-feasibility.md). What learns
from finished pictures alone needs no stochastic steps: there each sibling has noise of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    deviation: Tensor

    def to(self, device: torch.device | str) -> Step:
        """The same with its tensors on ``device``, but for ``rows``."""
        moved = {name: tensor.to(device) for name, tensor in vars(self).items() if name != "rows"}
        return Step(rows=self.rows, **moved)


@dataclass(frozen=True)
class Rollout:
    """``latents`` (groups * size, n, values) on ``canvas``, group by group, the steps to learn from and each group's
    first one; none where no step was stochastic."""

    latents: Tensor
    canvas: Canvas
    steps: list[Step]
    starts: list[int]
    forwards: int
    """Pictures passed through the model, summed over the steps: what the rollout cost."""

    def to(self, device: torch.device | str) -> Rollout:
        """The same with its tensors on ``device``; the rows of steps stay on the CPU."""
        return replace(self, latents=self.latents.to(device), steps=[step.to(device) for step in self.steps])


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


def learned_rows(gains: Tensor, groups: range, settings: GrpoSettings) -> list[int]:
    """Which pictures of ``groups`` are learned from: all, or ``settings.extremes`` of the best and as many of the worst
    of each by their advantages ``gains`` (pictures,).

    Those in the middle cost as much and pull hardly at all (Ge et al. 2025, "Expand and Prune", arXiv 2512.15347).
    """
    size, count = settings.group, settings.extremes
    if not count:
        return list(range(groups.start * size, groups.stop * size))
    order = gains.view(-1, size).argsort(dim=1, stable=True)
    chosen = torch.cat([order[:, :count], order[:, size - count :]], 1).sort(1).values
    return [group * size + row for group in groups for row in chosen[group].tolist()]


def group_times(grid: Tensor, start: int, settings: GrpoSettings) -> Tensor:
    """The times of a group whose window begins at step ``start``: those of the ``grid`` (steps + 1,) to the window's
    end, from there ``settings.tail`` steps over the rest of it, where it has so many (MixGRPO, Li et al. 2025, arXiv
    2507.21802, takes larger steps there as well).
    """
    end = start + settings.window
    steps = settings.steps - end
    count = min(settings.tail, steps) if settings.tail else steps
    return torch.cat([grid[:end], grid[torch.linspace(end, settings.steps, count + 1).round().long()]])


@torch.no_grad()
def draw_groups(
    model: UnifiedModel, prompts: Conditioning, canvas: Canvas, settings: GrpoSettings, generator: torch.Generator,
    at_a_time: int | None, guidance: float | None, own: range | None = None,
) -> Rollout:  # fmt: skip
    """Draw ``settings.group`` pictures for each row of ``prompts``, each from noise of its own and without a stochastic
    step; ``guidance`` as in :meth:`UnifiedModel.draw`, ``own`` as in :func:`roll_out`.
    """
    own, size = range(prompts.rows) if own is None else own, settings.group
    owners = [group for group in own for _ in range(size)]
    every = torch.randn(prompts.rows * size, *canvas.shape, generator=generator)
    noise = every[own.start * size : own.stop * size]
    drawn = [
        model.draw(
            prompts.select([owners[row] for row in some]), noise[list(some)], canvas, steps=settings.steps,
            guidance=guidance,
        )
        for some in pieces(range(len(owners)), at_a_time or len(owners))
    ]  # fmt: skip
    return Rollout(torch.cat(drawn), canvas, [], [], settings.steps * len(owners))


@torch.no_grad()
def roll_out(
    model: UnifiedModel, prompts: Conditioning, canvas: Canvas, settings: GrpoSettings, generator: torch.Generator,
    at_a_time: int | None = None, own: range | None = None,
) -> Rollout:  # fmt: skip
    """Draw ``settings.group`` pictures for each row of ``prompts`` (one a row) without guidance; of the rows ``own``
    alone where they are given, each as it is drawn with all of them.

    All randomness is from ``generator`` (CPU), whose state afterwards does not depend on ``own``. ``at_a_time``
    pictures go through the model together (None: all).
    """
    own = range(prompts.rows) if own is None else own
    size, device, shape = settings.group, model.device, canvas.shape
    starts = window_starts(prompts.rows, settings, generator)
    grid = model.times(settings.steps, settings.timestep_shift)
    second, times = float(grid[1]), [group_times(grid, start, settings) for start in starts]
    last = [len(of_group) - 1 for of_group in times]
    x = torch.randn(prompts.rows, *shape, generator=generator)[own.start : own.stop].to(device)
    owners = list(own)
    denoisers, counts = _denoisers(model, prompts, owners, canvas, at_a_time)
    finished: dict[int, Tensor] = {}
    steps: list[Step] = []
    forwards = 0
    noise = _noise_of_steps(starts, own, settings, shape, generator)
    for index in range(max(last[group] for group in own)):
        if index in starts or index in last:
            finished |= _of_groups(x, owners, [group for group in set(owners) if last[group] == index])
            going = [(row, group) for row, group in enumerate(owners) if last[group] > index]
            origins = [row for row, group in going for _ in range(size if starts[group] == index else 1)]
            x = x[torch.tensor(origins, device=device)]
            owners = [owners[row] for row in origins]
            denoisers, counts = _denoisers(model, prompts, owners, canvas, at_a_time)
        now, end = (torch.stack([times[group][k] for group in owners]).to(device) for k in (index, index + 1))
        parts = zip(denoisers, x.split(counts), now.split(counts), strict=True)
        predicted = torch.cat([denoiser.velocity(states, at) for denoiser, states, at in parts])
        forwards += len(owners)
        moved = ode_step(x, predicted, now, end)
        rows = [row for row, group in enumerate(owners) if starts[group] <= index < starts[group] + settings.window]
        if rows:
            chosen = torch.tensor(rows, device=device)
            mean, deviation = transition(x[chosen], predicted[chosen], now[chosen], end[chosen], settings, second)
            after = mean + deviation * noise[index].to(device)
            moved[chosen] = after
            # groups that have not branched yet are single rows: find each picture's place in the finished rollout
            places = torch.tensor(_places(owners, rows, size))
            probability = log_probability(after, mean, deviation)
            steps.append(Step(places, x[chosen], after, now[chosen], end[chosen], probability, deviation.flatten()))
        x = moved
    finished |= _of_groups(x, owners, list(set(owners)))
    mine = [starts[group] for group in own]
    return Rollout(torch.cat([finished[group] for group in own]), canvas, steps, mine, forwards)


def _noise_of_steps(
    starts: Sequence[int], own: range, settings: GrpoSettings, shape: tuple[int, int], generator: torch.Generator
) -> list[Tensor]:
    """What is added in each step (k, n, values) to the pictures of the groups ``own`` that are in their window then;
    ``starts`` are the windows of all groups, for which ``generator`` is asked."""
    found = []
    for index in range(settings.steps):
        inside = [group for group, start in enumerate(starts) if start <= index < start + settings.window]
        noise = torch.randn(len(inside) * settings.group, *shape, generator=generator)
        before, mine = (sum(group < edge for group in inside) * settings.group for edge in (own.start, own.stop))
        found.append(noise[before:mine])
    return found


def joined_rollouts(parts: Sequence[Rollout]) -> Rollout:
    """What several processes have drawn, each some of the groups and in their order, as one."""
    return Rollout(
        torch.cat([part.latents for part in parts]),
        parts[0].canvas,
        [step for part in parts for step in part.steps],
        [start for part in parts for start in part.starts],
        sum(part.forwards for part in parts),
    )


def _of_groups(x: Tensor, owners: Sequence[int], groups: Sequence[int]) -> dict[int, Tensor]:
    """The rows of ``x`` that belong to each of ``groups``."""
    rows = {group: [row for row, owner in enumerate(owners) if owner == group] for group in groups}
    return {group: x[rows[group]] for group in groups}


def _denoisers(
    model: UnifiedModel, prompts: Conditioning, owners: Sequence[int], canvas: Canvas, at_a_time: int | None
) -> tuple[list[Denoiser], list[int]]:
    """One for so many rows at a time, and how many rows each has."""
    some = list(pieces(owners, at_a_time or len(owners)))
    return [model.denoiser(prompts.select(rows), canvas) for rows in some], [len(rows) for rows in some]


def _places(owners: Sequence[int], rows: Sequence[int], size: int) -> list[int]:
    first: dict[int, int] = {}
    for row, group in enumerate(owners):
        first.setdefault(group, row)
    return [owners[row] * size + row - first[owners[row]] for row in rows]
