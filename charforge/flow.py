"""Rectified flow in fp32: x_t = (1 - t) x0 + t noise, velocity = noise - x0, t = 1 is noise (bagel.md section 4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def shift_timesteps(t: Tensor, shift: float) -> Tensor:
    """Move times towards noise: s t / (1 + (s - 1) t). Shape kept; 0 and 1 stay."""
    return shift * t / (1 + (shift - 1) * t)


def logit_normal_timesteps(normal: Tensor, shift: float) -> Tensor:
    """Standard normal values (any shape) -> shifted times in (0, 1); -inf gives exactly 0 (a clean picture)."""
    return shift_timesteps(torch.sigmoid(normal.float()), shift)


def stratified_normal(count: int, generator: torch.Generator) -> Tensor:
    """``count`` standard normal values, one from each of ``count`` equally likely slices, in random order.

    Same distribution as independent draws with less variance of the batch loss.
    """
    uniform = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return torch.special.ndtri(uniform.clamp(1e-4, 1 - 1e-4))


def interpolate(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t for tokens x0 (..., values), noise alike and t (...,)."""
    t = t.unsqueeze(-1)
    return (1 - t) * x0.float() + t * noise.float()


def target_velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """What the model should predict: noise - x0."""
    return noise.float() - x0.float()


# Steps of the sampler: x and velocity are (rows, n, values); the times ``now`` > ``after`` are (rows,) or one number.


def ode_step(x: Tensor, velocity: Tensor, now: Tensor, after: Tensor) -> Tensor:
    """One Euler step from ``now`` to ``after``."""
    return x.float() + velocity.float() * _per_row(after - now)


def sde_step(
    x: Tensor, velocity: Tensor, now: Tensor, after: Tensor, noise_level: float, second: float
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (rows, 1, 1) of the published stochastic step (unicharacter.md 4.3, Flow-GRPO).

    sigma = a sqrt(t / (1 - t)); at t = 1, where that has no end, the schedule's ``second`` time stands in the
    denominator.
    """
    t, step = _per_row(now).float(), _per_row(after - now).float()
    sigma2 = noise_level**2 * t / (1 - torch.where(t == 1, torch.full_like(t, second), t))
    drift = sigma2 / (2 * t)
    mean = x.float() * (1 + drift * step) + velocity.float() * (1 + drift * (1 - t)) * step
    return mean, (-step * sigma2).sqrt()


def cps_step(x: Tensor, velocity: Tensor, now: Tensor, after: Tensor, noise_level: float) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (rows, 1, 1) of the coefficient-preserving step (Wang and Yu 2025, "Flow-CPS").

    The picture keeps its share 1 - ``after``, and old and fresh noise together have exactly the variance ``after``^2
    that the flow has there. ``noise_level`` 0 is the Euler step, 1 replaces all noise.
    """
    t, end = _per_row(now).float(), _per_row(after).float()
    x, velocity = x.float(), velocity.float()
    picture, noise = x - t * velocity, x + (1 - t) * velocity
    angle = noise_level * math.pi / 2
    return (1 - end) * picture + end * math.cos(angle) * noise, end * math.sin(angle)


def log_probability(x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Log-density in nats of ``x`` under N(mean, deviation^2), averaged over tokens and values; (rows,).

    The mean, not the sum, as in the published code: clip ranges belong to this scale.
    """
    density = -(x.float() - mean).pow(2) / (2 * deviation**2) - deviation.log() - 0.5 * math.log(2 * math.pi)
    return density.mean(dim=(-2, -1))


def _per_row(t: Tensor) -> Tensor:
    return t[..., None, None]
