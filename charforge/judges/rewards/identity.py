"""Being the character."""

from __future__ import annotations

from torch import Tensor

from charforge.judges.likeness import References
from charforge.judges.needs import ENCODER
from charforge.judges.reward import Reward


def identity_reward(nearest: Tensor, references: References) -> Tensor:
    """Positive up to the cap: beyond it there is nothing to win but a copy."""
    return nearest.clamp(max=references.cap)


REWARD = Reward(
    "identity",
    weight=0.15,
    scale_floor=0.01,
    compute=lambda evidence: identity_reward(evidence.nearest, evidence.judges.references),
    needs=(ENCODER,),
)
