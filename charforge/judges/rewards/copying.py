"""Not being a copy of a picture of the character."""

from __future__ import annotations

from torch import Tensor

from charforge.judges.evidence import Evidence
from charforge.judges.needs import ENCODER
from charforge.judges.reward import Reward


def copying_reward(nearest: Tensor, high: float, low: float) -> Tensor:
    """-2 (s - high) above ``high``, -2 (low - s) below ``low``, 0 between (the published form, unicharacter.md 4.5)."""
    return -2 * (nearest - high).clamp(min=0) - 2 * (low - nearest).clamp(min=0)


def compute(evidence: Evidence) -> Tensor:
    """(rows,), between the thresholds that the character's own pictures give."""
    references = evidence.judges.references
    return copying_reward(evidence.nearest, references.copy, references.low)


REWARD = Reward("copying", weight=0.15, scale_floor=0.01, compute=compute, needs=(ENCODER,))
