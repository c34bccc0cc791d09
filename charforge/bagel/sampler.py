"""Drawing: Euler steps of the flow with text and image guidance and three renormalisations (bagel.md section 5)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from charforge.bagel.config import SamplingConfig
from charforge.bagel.context import Canvas, Context, join_contexts, prepare_canvas, velocity
from charforge.bagel.model import BagelModel
from charforge.flow import ode_step

Bare = Callable[[], AbstractContextManager[None]]
JOINED_TOKENS = 1024
"""Up to so many latent tokens go through the model once for both velocities of text guidance: with few tokens the time
goes into reading the weights. With many it would only take twice the memory."""


@dataclass(frozen=True)
class Guidance:
    """The three contexts of guidance: everything, without the last text, without pictures."""

    full: Context
    without_text: Context
    without_images: Context


def timestep_schedule(steps: int, shift: float) -> Tensor:
    """Shifted times from 1 (noise) to 0, ``steps`` values, hence ``steps - 1`` Euler steps."""
    t = torch.linspace(1, 0, steps)
    return shift * t / (1 + (shift - 1) * t)


def guided(cond: Tensor, without_text: Tensor, without_images: Tensor | None, settings: SamplingConfig) -> Tensor:
    """Combine velocities (rows, n, values): text guidance, then image guidance, then renormalisation.

    ``global`` uses one norm per picture, ``channel`` one per token after both guidances, ``text_channel`` one per
    token between them. Image guidance does nothing unless text guidance is on.
    """
    out = without_text + settings.cfg_text_scale * (cond - without_text)
    kind, minimum = settings.cfg_renorm_type, settings.cfg_renorm_min
    if kind == "text_channel":
        out = _renormalise(out, cond, (-1,), minimum)
    if without_images is not None:
        out = without_images + settings.cfg_img_scale * (out - without_images)
    if kind == "global":
        out = _renormalise(out, cond, (-2, -1), minimum)
    elif kind == "channel":
        out = _renormalise(out, cond, (-1,), minimum)
    return out


def _renormalise(guided_velocity: Tensor, cond: Tensor, dims: tuple[int, ...], minimum: float) -> Tensor:
    wanted = cond.norm(dim=dims, keepdim=True)
    factor = wanted / (guided_velocity.norm(dim=dims, keepdim=True) + 1e-8)
    return guided_velocity * factor.clamp(min=minimum, max=1.0)


@torch.no_grad()
def draw(
    model: BagelModel,
    guidance: Guidance,
    noise: Tensor,
    position_ids: Tensor,
    settings: SamplingConfig,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
    bare: Bare | None = None,
) -> Tensor:
    """Latent tokens (rows, n, values) from ``noise`` of the same shape, kept in fp32 throughout.

    ``bare()`` is a block in which the model is without its adapter: above ``settings.cfg_bare_above`` guidance leads
    away from what the *base* draws without text. With its adapter it draws the character there as well, and guidance
    would lead away from the character (Phunyaphibarn et al. 2025, "Unconditional Priors Matter!"). At lower times,
    where the look is settled, the adapter's own serves the details better (docs/log.md, 2026-11-26, night).
    ``on_step(index, x_t, velocity)`` sees every step (progress bars, tests).
    """
    canvases = _canvases(model, guidance, position_ids)
    times = timestep_schedule(settings.steps, settings.timestep_shift)
    x = noise.float()
    for index, (now, after) in enumerate(pairwise(times)):
        step_velocity = _velocity_at(model, canvases, x, float(now), settings, bare)
        if on_step is not None:
            on_step(index, x, step_velocity)
        # one number each, but on the device of x: a GPU's and a CPU's tensor do not multiply
        x = ode_step(x, step_velocity, now.to(x.device), after.to(x.device))
    return x


@dataclass(frozen=True)
class _Canvases:
    """One for each context of guidance; ``both`` has the rows of ``full`` and then of ``without_text``."""

    full: Canvas
    without_text: Canvas
    without_images: Canvas
    both: Canvas | None


def _canvases(model: BagelModel, guidance: Guidance, position_ids: Tensor) -> _Canvases:
    full, without_text, without_images = (
        prepare_canvas(model, context, position_ids)
        for context in (guidance.full, guidance.without_text, guidance.without_images)
    )
    both = None
    if guidance.full.rows * position_ids.shape[0] <= JOINED_TOKENS:
        both = prepare_canvas(model, join_contexts(guidance.full, guidance.without_text), position_ids)
    return _Canvases(full, without_text, without_images, both)


def _velocity_at(
    model: BagelModel, canvases: _Canvases, x: Tensor, now: float, settings: SamplingConfig, bare: Bare | None
) -> Tensor:
    t = torch.full((x.shape[0],), now, device=x.device)
    low, high = settings.cfg_interval
    if not (low < now <= high and settings.cfg_text_scale > 1.0):
        return velocity(model, canvases.full, x, t).float()
    if bare is not None and now > settings.cfg_bare_above:
        cond = velocity(model, canvases.full, x, t).float()
        with bare():
            text = velocity(model, canvases.without_text, x, t).float()
    elif canvases.both is not None:
        cond, text = velocity(model, canvases.both, x.repeat(2, 1, 1), t.repeat(2)).float().chunk(2)
    else:
        cond = velocity(model, canvases.full, x, t).float()
        text = velocity(model, canvases.without_text, x, t).float()
    with_images = settings.cfg_img_scale > 1.0
    images = velocity(model, canvases.without_images, x, t).float() if with_images else None
    return guided(cond, text, images, settings)
