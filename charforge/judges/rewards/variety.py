"""Being unlike its siblings."""

from __future__ import annotations

import torch
from torch import Tensor

from charforge.judges.evidence import Evidence
from charforge.judges.needs import ENCODER
from charforge.judges.reward import Reward


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


def compute(evidence: Evidence) -> Tensor:
    """(rows,): for pictures that show the scene at least as well as their group does on average."""
    scene, size = evidence.scene, evidence.size
    paid = scene >= scene.view(-1, size).mean(1).repeat_interleave(size)
    return leave_one_out_variety(evidence.features, size, paid)


REWARD = Reward("variety", weight=0.10, scale_floor=0.01, compute=compute, needs=(ENCODER,))
