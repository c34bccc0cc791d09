"""How likely a base finds a text: the judge of written pairs and of multiple-choice questions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from charforge.bases.base import Base
from charforge.families.bagel.model import computes_in_bf16
from charforge.families.bagel.packing import pack
from charforge.families.bagel.splits import Split, supervised_tokens

NOT_ASKED = "Go on."
"""What stands instead of a question to learn how likely an answer is by itself."""


def mean_log_likelihood(base: Base, splits: Sequence[Split]) -> float:
    """Mean log-likelihood in nats per supervised token of one sample; its last item should have loss."""
    return token_log_likelihoods(base, [splits])[0].mean().item()


@torch.no_grad()
def token_log_likelihoods(base: Base, samples: Sequence[Sequence[Split]]) -> list[Tensor]:
    """Log-likelihood in nats of every supervised token, samples read in one pass; (tokens,) each.

    Of a reply these are the tokens of its role, of its words, and its end.
    """
    with torch.autocast(base.model.device.type, torch.bfloat16, enabled=computes_in_bf16(base.model)):
        batch = pack([list(splits) for splits in samples], base.config).to(base.model.device)
        logits = base.model(batch).logits
    likelihoods = -F.cross_entropy(logits.float(), batch.labels, reduction="none")
    return list(likelihoods.cpu().split([supervised_tokens(splits) for splits in samples]))
