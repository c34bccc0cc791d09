"""Drawing: Euler steps of the flow with text and image guidance and three renormalisations (bagel.md section 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from charforge.families.bagel.blocks import read_decoder
from charforge.families.bagel.config import SamplingConfig
from charforge.families.bagel.context import Context, join_contexts
from charforge.families.bagel.denoise import Denoiser
from charforge.families.bagel.model import BagelModel
from charforge.flow import ode_step

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


@dataclass(frozen=True)
class DrawnStep:
    """``done`` of ``steps`` Euler steps. All (rows, n, values): the states after it, x0 as the model expects it, and
    the guided velocity that led there."""

    done: int
    steps: int
    states: Tensor
    expected: Tensor
    velocity: Tensor


@torch.no_grad()
def draw_steps(
    model: BagelModel, guidance: Guidance, noise: Tensor, position_ids: Tensor, settings: SamplingConfig
) -> Iterator[DrawnStep]:
    """Latent tokens (rows, n, values) from ``noise`` of the same shape, kept in fp32 throughout, step by step.

    The adapter in the model acts if it is on when the first step is asked for. Above ``settings.cfg_bare_above``
    guidance leads away from what the *base* draws without text all the same: with its adapter it draws the character
    there as well, and guidance would lead away from the character (Phunyaphibarn et al. 2025, "Unconditional Priors
    Matter!"). At lower times, where the look is settled, the adapter's own serves the details better (docs/log.md,
    2026-11-26, night).
    """
    velocities = _Velocities(model, guidance, position_ids, settings)
    times = timestep_schedule(settings.steps, settings.timestep_shift)
    x = noise.float()
    for index, (now, after) in enumerate(pairwise(times)):
        velocity = velocities.at(x, float(now))
        # one number each, but on the device of x: a GPU's and a CPU's tensor do not multiply
        expected = ode_step(x, velocity, now.to(x.device), torch.zeros_like(now).to(x.device))
        x = ode_step(x, velocity, now.to(x.device), after.to(x.device))
        yield DrawnStep(index + 1, len(times) - 1, x, expected, velocity)


def draw(
    model: BagelModel, guidance: Guidance, noise: Tensor, position_ids: Tensor, settings: SamplingConfig
) -> Tensor:
    """The states after the last of :func:`draw_steps`."""
    states = noise.float()
    for step in draw_steps(model, guidance, noise, position_ids, settings):
        states = step.states
    return states


class _Velocities:
    """The guided velocity at each time. Where the pictures are small both of text guidance are one pass: the rows
    with the text, then those without."""

    def __init__(self, model: BagelModel, guidance: Guidance, position_ids: Tensor, settings: SamplingConfig) -> None:
        decoder = read_decoder(model)
        self._settings = settings
        self._guides = settings.cfg_text_scale > 1.0
        joined = self._guides and guidance.full.rows * position_ids.shape[0] <= JOINED_TOKENS

        def denoiser(context: Context) -> Denoiser:
            return Denoiser(model, decoder, context, position_ids)

        self._both = denoiser(join_contexts(guidance.full, guidance.without_text)) if joined else None
        self._full = denoiser(guidance.full)
        self._without_text = denoiser(guidance.without_text) if self._guides and not joined else None
        with_images = self._guides and settings.cfg_img_scale > 1.0
        self._without_images = denoiser(guidance.without_images) if with_images else None

    def at(self, x: Tensor, now: float) -> Tensor:
        """(rows, n, values) in fp32."""
        rows = x.shape[0]
        t = torch.full((rows,), now, device=x.device)
        low, high = self._settings.cfg_interval
        if not (self._guides and low < now <= high):
            return self._full.velocity(x, t, rows).float()
        bare = now > self._settings.cfg_bare_above
        if self._both is not None:
            both = self._both.velocity(x.repeat(2, 1, 1), t.repeat(2), rows if bare else 2 * rows).float()
            cond, text = both.chunk(2)
        else:
            assert self._without_text is not None
            cond = self._full.velocity(x, t, rows).float()
            text = self._without_text.velocity(x, t, 0 if bare else rows).float()
        images = self._without_images.velocity(x, t, rows).float() if self._without_images is not None else None
        return guided(cond, text, images, self._settings)
