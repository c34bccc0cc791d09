"""How the learning rate goes up and down over a run. No torch."""

from __future__ import annotations

import math


def rate_factor(step: int, warmup: int, steps: int) -> float:
    """Share of the highest learning rate at ``step`` of ``steps``: linear warm-up, then a cosine to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))


def learned_by(step: int, warmup: int, steps: int) -> float:
    """The rate factors of the first ``step`` of ``steps`` added up: how much has been learned in units of one step at
    the highest rate."""
    return sum(rate_factor(index, warmup, steps) for index in range(step))
