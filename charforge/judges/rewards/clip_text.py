"""Fitting the prompt, by CLIP."""

from __future__ import annotations

from torch import Tensor

from charforge.judges.evidence import Evidence
from charforge.judges.needs import CLIP
from charforge.judges.reward import Reward


def similarity_to_prompt(evidence: Evidence) -> Tensor:
    """(rows,): cosine of each picture with its scene's prompt."""
    matcher = evidence.judges.matcher
    assert matcher is not None
    return matcher.similarity(evidence.pictures, [scene.prompt for scene in evidence.scenes]).cpu()


REWARD = Reward("clip_text", weight=0.0, scale_floor=0.005, compute=similarity_to_prompt, needs=(CLIP,))
