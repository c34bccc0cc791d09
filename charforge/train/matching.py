"""Learning from judged pictures with the first stage's own loss: weighted by the advantage, or on the best ones alone.

Advantage-weighted matching (Xue et al. 2025, arXiv 2509.25050) takes the flow-matching error of a picture noised again
as its negative log-likelihood and weighs it by the picture's advantage. For bad pictures that loss has no lower end:
unguarded it collapses. The guards here: advantages are standardised and clipped, those below zero count for a share,
every picture serves one update, and the update's gradient has length 1 beside the anchor's. Published code clips the
probability ratio and stays near a moving average of itself instead.

The best of each group kept and learned is rejection sampling (RAFT, Dong et al. 2023, arXiv 2304.06767): what choosing
the best of several drawings gives at the time of use, learned once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from charforge.families.protocol import UnifiedModel
from charforge.flow import target_velocity
from charforge.train.noised import Noised
from charforge.train.samples import choose
from charforge.train.team import ALONE, Team

LATENTS, DRAWN = "kept.latents", "kept.drawn"


def matching_weights(gains: Tensor, negative_share: float) -> Tensor:
    """What each picture's error counts (pictures,): its advantage, of one below zero a share."""
    return torch.where(gains < 0, negative_share * gains, gains)


def flow_errors(predicted: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """Squared error of predicted velocities (rows,), a mean over tokens and values; all (rows, n, values)."""
    return (predicted.float() - target_velocity(x0, noise)).pow(2).mean(dim=(1, 2))


def matching_gradient(model: UnifiedModel, noised: Noised, weights: Tensor, size: int, team: Team = ALONE) -> None:
    """Backward through the flow-matching errors of the ``noised`` pictures, ``size`` at a time: their mean, each times
    its picture's weight (pictures,). Of a ``team`` each process computes its part of that mean."""
    for piece in noised.pieces(model, size, team):
        predicted = piece.denoiser(model).velocity(piece.x_t, piece.times)
        errors = flow_errors(predicted, piece.x0, piece.noise)
        ((weights[piece.rows].to(model.device) * errors).sum() / len(noised.rows)).backward()
        # with its graph go the inputs that products of bitsandbytes hold on to, also after a backward pass
        del predicted, errors


# the best picture of each scene


def nothing_kept(scenes: int, shape: tuple[int, int]) -> dict[str, Tensor]:
    """Room for the best picture of each scene, of ``shape`` (n, values), and whether there is one."""
    return {LATENTS: torch.zeros(scenes, *shape), DRAWN: torch.zeros(scenes, dtype=torch.bool)}


def keep_best(kept: dict[str, Tensor], scenes: Sequence[int], latents: Tensor, rewards: Tensor, size: int) -> None:
    """Put the picture with the highest reward of each group, which shows one of ``scenes``, into its place.

    ``latents`` (groups * size, n, values), ``rewards`` (groups * size,). A later group replaces an earlier one: rewards
    compare siblings.
    """
    best = rewards.view(-1, size).argmax(1) + torch.arange(len(scenes)) * size
    kept[LATENTS][list(scenes)] = latents[best].float().cpu()
    kept[DRAWN][list(scenes)] = True


def kept_scenes(kept: dict[str, Tensor], count: int, index: int, seed: int) -> list[int]:
    """The scenes whose kept pictures update ``index`` learns from, in turn."""
    return choose(kept[DRAWN].nonzero().flatten().tolist(), count, index, seed)
