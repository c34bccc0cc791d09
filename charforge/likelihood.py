"""How likely a base finds a text: the judge of written pairs and of multiple-choice questions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from charforge.bagel.model import computes_in_bf16
from charforge.bagel.packing import Split, pack
from charforge.bases.base import Base


@torch.no_grad()
def mean_log_likelihood(base: Base, splits: Sequence[Split]) -> float:
    """Mean log-likelihood in nats per supervised token of one sample; its last item should have loss."""
    with torch.autocast(base.model.device.type, torch.bfloat16, enabled=computes_in_bf16(base.model)):
        batch = pack([list(splits)], base.config).to(base.model.device)
        logits = base.model(batch).logits
    return -F.cross_entropy(logits.float(), batch.labels).item()
