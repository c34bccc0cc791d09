"""The published reward to the letter, so that ours can be compared with it (unicharacter.md 4.5).

r = 0.30 VQA + 0.45 CLIP + 0.10 DIV + 0.15 PEN, nothing standardised. The judges are those of the release: BLIP-VQA,
CLIP ViT-L/14, LPIPS (AlexNet) and DINOv2; where one is missing the run stops and says what to fetch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

WEIGHTS = {"vqa": 0.30, "clip": 0.45, "diversity": 0.10, "penalty": 0.15}
HIGH, LOW = 0.9, 0.5


def vqa_score(answers: Sequence[str], expected: Sequence[str], weights: Sequence[float]) -> float:
    """Weighted share of answers that match to the letter, case aside. Weights (1, 0.5), first right: 2/3."""
    right = [answer.strip().lower() == key.lower() for answer, key in zip(answers, expected, strict=True)]
    return sum(weight for weight, hit in zip(weights, right, strict=True) if hit) / sum(weights)


def clip_score(cosine: Tensor) -> Tensor:
    """Logits over 30: a cosine of 0.3 is 1.0."""
    return 100 * cosine / 30


def group_diversity(distances: Tensor) -> Tensor:
    """Mean over all pairs of (groups, size, size) distances, the same number for every sibling; (groups * size,).

    Subtracting the group's mean, as the advantage does, leaves exactly nothing of it.
    """
    size = distances.shape[-1]
    mean = distances.sum(dim=(1, 2)) / (size * (size - 1))
    return mean.repeat_interleave(size)


def penalty(nearest: Tensor) -> Tensor:
    """-2 (s - 0.9) above 0.9, -2 (0.5 - s) below 0.5, 0 between."""
    return torch.where(nearest > HIGH, -2 * (nearest - HIGH), torch.where(nearest < LOW, -2 * (LOW - nearest), 0.0))
