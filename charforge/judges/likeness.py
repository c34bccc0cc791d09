"""How alike pictures are; thresholds come from the training pictures themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FEWEST_REFERENCES = 3
"""Pictures of a character that say how alike pictures of it are."""


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
    if count < FEWEST_REFERENCES:
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


def usual_likeness(similarity: Tensor, references: References) -> Tensor:
    """Cosines (rows,) on the scale of the character's own pictures: 0 where they are hardly ever as unlike each other,
    1 where they are usually as alike, and never more: a copy earns nothing."""
    return ((similarity - references.low) / max(references.cap - references.low, 1e-6)).clamp(max=1)


def nearest_similarity(features: Tensor, references: References) -> Tensor:
    """(rows, width) -> cosine with the nearest of the character's pictures (rows,)."""
    return (features @ references.features.T).max(1).values
