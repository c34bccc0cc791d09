"""How likely a base finds a text: the judge of written pairs and of multiple-choice questions."""

from __future__ import annotations

from charforge.families.protocol import UnifiedModel
from charforge.sample import Sample

NOT_ASKED = "Go on."
"""What stands instead of a question to learn how likely an answer is by itself."""


def mean_log_likelihood(model: UnifiedModel, sample: Sample) -> float:
    """Mean log-likelihood in nats per supervised token of one sample; its last item should have loss."""
    with model.autocast():
        return model.log_likelihoods([sample])[0].mean().item()
