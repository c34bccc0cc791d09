"""DiffusionNFT: reinforcement on the forward process, the alternative to the policy gradient (Zheng et al. 2025).

No probabilities, no stochastic steps to remember: a drawn picture is noised again, and the model is drawn towards what
it predicts there as far as the picture was good and away from it as far as it was bad, beside the policy that drew.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from charforge.adapter.lora import with_values
from charforge.families.protocol import UnifiedModel
from charforge.families.results import Conditioning
from charforge.flow import interpolate, logit_normal_timesteps, stratified_normal
from charforge.settings import GrpoSettings
from charforge.train.memory import pieces
from charforge.train.rollout import Rollout


def optimality(gains: Tensor) -> Tensor:
    """Advantages (rows,) -> how good a picture is in [0, 1], 0.5 for the mean of its group."""
    return 0.5 + 0.5 * gains.clamp(-1, 1)


def negative_aware_loss(
    predicted: Tensor, old: Tensor, x_t: Tensor, x0: Tensor, t: Tensor, good: Tensor, beta: float
) -> Tensor:
    """Loss of each row (rows,): ``good`` of the implicit positive policy's error, the rest of the negative one's.

    v+ = (1 - beta) v_old + beta v, v- = (1 + beta) v_old - beta v. Errors are those of the predicted picture
    x_t - t v, each divided by its own mean absolute value as in the paper (section 3.3). All (rows, n, values) but
    t, good (rows,).
    """
    time = t[:, None, None]

    def error(of: Tensor) -> Tensor:
        off = (x_t - time * of) - x0
        scale = off.detach().abs().mean(dim=(1, 2)).clamp(min=1e-5)
        return off.pow(2).mean(dim=(1, 2)) / scale

    positive = error((1 - beta) * old + beta * predicted)
    negative = error((1 + beta) * old - beta * predicted)
    return good * positive + (1 - good) * negative


@dataclass(frozen=True)
class Noised:
    """Drawn pictures noised again: which picture of all groups each is, its latents, times (k,) and noise; ``count`` of
    them are in the update, wherever they are computed."""

    rows: list[int]
    x0: Tensor
    times: Tensor
    noise: Tensor
    count: int


def noised_again(rollout: Rollout, groups: range, settings: GrpoSettings, generator: torch.Generator) -> Noised:
    """The pictures of ``groups`` that the rollout has, each ``settings.nft_times`` times.

    ``generator`` is asked for all of ``groups``.
    """
    every = range(groups.start * settings.group, groups.stop * settings.group)
    rows = [row for row in every for _ in range(settings.nft_times)]
    times = logit_normal_timesteps(stratified_normal(len(rows), generator), settings.timestep_shift)
    noise = torch.randn(len(rows), *rollout.latents.shape[1:], generator=generator)
    first = {group: place * settings.group for place, group in enumerate(rollout.groups)}
    mine = [k for k, row in enumerate(rows) if row // settings.group in first]
    rows_of_mine = [rows[k] for k in mine]
    places = [first[row // settings.group] + row % settings.group for row in rows_of_mine]
    return Noised(rows_of_mine, rollout.latents[places].float(), times[mine], noise[mine], len(rows))


def forward_process_gradient(
    model: UnifiedModel, prompts: Conditioning, noised: Noised, gains: Tensor, settings: GrpoSettings,
    parameters: dict[str, nn.Parameter], old: dict[str, Tensor], size: int,
) -> None:  # fmt: skip
    """Backward through the loss of the ``noised`` pictures, ``size`` at a time: their part of the update's mean."""
    device, canvas = model.device, model.canvas()
    good = optimality(gains)
    for some in pieces(range(len(noised.rows)), size):
        chosen = torch.tensor([noised.rows[k] for k in some])
        x0, t, noise = (part[list(some)].to(device) for part in (noised.x0, noised.times, noised.noise))
        x_t = interpolate(x0, noise, t[:, None].expand(-1, x0.shape[1]))
        denoiser = model.denoiser(prompts.select((chosen // settings.group).tolist()), canvas)
        with torch.no_grad(), with_values(parameters, old):
            before = denoiser.velocity(x_t, t)
        predicted = denoiser.velocity(x_t, t)
        losses = negative_aware_loss(predicted, before, x_t, x0, t, good[chosen].to(device), settings.nft_beta)
        (losses.sum() / noised.count).backward()


@torch.no_grad()
def move_old_policy(old: dict[str, Tensor], parameters: dict[str, nn.Parameter], decay: float) -> None:
    """The policy that draws follows the learned one: old = decay old + (1 - decay) new."""
    for name, parameter in parameters.items():
        old[name].lerp_(parameter.detach(), 1 - decay)
