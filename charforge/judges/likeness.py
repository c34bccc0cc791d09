"""Identity, copying and variety from features; thresholds come from the training pictures themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class References:
    """Features (pictures, width) of the character's own pictures and what is usual between them.

    ``cap``: as alike as a picture of the character usually is to its nearest other one; more earns nothing.
    ``copy``: more alike than any two of them are. ``low``: less alike than nearly any two of them are.
    """

    features: Tensor
    cap: float
    copy: float
    low: float


def calibrate(features: Tensor) -> References:
    """Thresholds from the similarities between the character's pictures. Raises ValueError for fewer than three."""
    count = features.shape[0]
    if count < 3:
        raise ValueError(f"{count} pictures do not say how alike pictures of this character are: three are needed")
    between = features @ features.T
    pairs = between[~torch.eye(count, dtype=torch.bool)].view(count, count - 1)
    nearest = pairs.max(1).values
    return References(
        features,
        cap=nearest.median().item(),
        copy=nearest.max().item(),
        low=pairs.quantile(0.05).item(),
    )


def nearest_similarity(features: Tensor, references: References) -> Tensor:
    """(rows, width) -> cosine with the nearest of the character's pictures (rows,)."""
    return (features @ references.features.T).max(1).values


def identity_reward(nearest: Tensor, references: References) -> Tensor:
    """Positive up to the cap: beyond it there is nothing to win but a copy."""
    return nearest.clamp(max=references.cap)


def copying_reward(nearest: Tensor, high: float, low: float) -> Tensor:
    """-2 (s - high) above ``high``, -2 (low - s) below ``low``, 0 between (the published form, unicharacter.md 4.5)."""
    return -2 * (nearest - high).clamp(min=0) - 2 * (low - nearest).clamp(min=0)


def leave_one_out_variety(features: Tensor, size: int, paid: Tensor) -> Tensor:
    """Each picture's mean distance to its siblings, groups of ``size`` in order; 0 where ``paid`` (rows,) is false.

    A number of its own for each picture: the published one is the same for all siblings, and the group's mean takes
    it away again. Ungated it would pay the odd one out, which is usually the one that missed the scene.
    """
    grouped = features.view(-1, size, features.shape[-1])
    distance = 1 - grouped @ grouped.transpose(1, 2)
    own = torch.eye(size, dtype=torch.bool, device=features.device)
    mean = distance.masked_fill(own, 0).sum(-1) / (size - 1)
    return mean.flatten() * paid
