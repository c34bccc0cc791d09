"""Rectified flow in fp32: x_t = (1 - t) x0 + t noise, velocity = noise - x0, t = 1 is noise (bagel.md section 4)."""

from __future__ import annotations

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
