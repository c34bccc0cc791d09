"""Drawn pictures noised again: what every way of learning from finished pictures begins with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charforge.families.protocol import UnifiedModel
from charforge.families.results import Canvas, Conditioning, Denoiser
from charforge.flow import interpolate, logit_normal_timesteps, stratified_normal
from charforge.settings import GrpoSettings
from charforge.train.memory import pieces
from charforge.train.team import ALONE, Team


@dataclass(frozen=True)
class Piece:
    """Noised pictures that go through the model together, on its device. ``rows`` (k,) on the CPU; ``x_t``, ``x0`` and
    ``noise`` (k, n, values), ``times`` (k,)."""

    rows: Tensor
    prompts: Conditioning
    canvas: Canvas
    x_t: Tensor
    x0: Tensor
    noise: Tensor
    times: Tensor

    def denoiser(self, model: UnifiedModel) -> Denoiser:
        """The model after the pictures' prompts."""
        return model.denoiser(self.prompts, self.canvas)


@dataclass(frozen=True)
class Noised:
    """Pictures on ``canvas`` noised again: which picture each is (``rows``), which row of ``prompts`` it was drawn for,
    its latents ``x0`` (k, n, values), times (k,) and noise."""

    rows: list[int]
    prompts: Conditioning
    owners: list[int]
    canvas: Canvas
    x0: Tensor
    times: Tensor
    noise: Tensor

    def pieces(self, model: UnifiedModel, size: int, team: Team = ALONE) -> Iterator[Piece]:
        """All of them in order, ``size`` at a time; of a ``team`` the share of this process."""
        for some in pieces(team.share(len(self.rows)), size):
            x0, t, noise = (part[list(some)].to(model.device) for part in (self.x0, self.times, self.noise))
            x_t = interpolate(x0, noise, t[:, None].expand(-1, x0.shape[1]))
            prompts = self.prompts.select([self.owners[k] for k in some])
            yield Piece(torch.tensor([self.rows[k] for k in some]), prompts, self.canvas, x_t, x0, noise, t)


def noised_again(
    latents: Tensor, rows: Sequence[int], prompts: Conditioning, owners: Sequence[int], canvas: Canvas,
    settings: GrpoSettings, generator: torch.Generator,
) -> Noised:  # fmt: skip
    """The pictures ``rows`` of ``latents`` (pictures, n, values) on ``canvas``, each ``settings.draws`` times, at times
    as in the first stage; ``owners`` are their rows of ``prompts``. All randomness is from ``generator`` (CPU)."""
    draws = settings.draws
    repeated = [row for row in rows for _ in range(draws)]
    times = logit_normal_timesteps(stratified_normal(len(repeated), generator), settings.timestep_shift)
    noise = torch.randn(len(repeated), *latents.shape[1:], generator=generator)
    own = [owner for owner in owners for _ in range(draws)]
    return Noised(repeated, prompts, own, canvas, latents[repeated].float(), times, noise)
