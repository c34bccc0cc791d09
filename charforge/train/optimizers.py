"""AdamW on fp32 masters, with its moments in fp32, in 8 bit, or in 8 bit in memory that the GPU may page out."""

from __future__ import annotations

from typing import Any

import torch

from charforge.settings import OptimizerKind


def make_optimizer(
    groups: list[dict[str, Any]], kind: OptimizerKind, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """AdamW without weight decay over parameter ``groups``; rates are set by the loop.

    8 bit (bitsandbytes) takes 2 bytes a weight for the two moments instead of 8. On a CPU it is twenty times slower
    than the fused fp32 one and saves nothing that matters.
    """
    if kind == "adamw":
        return torch.optim.AdamW(groups, betas=betas, weight_decay=0.0, fused=True)
    import bitsandbytes as bnb

    made = bnb.optim.AdamW8bit if kind == "adamw8bit" else bnb.optim.PagedAdamW8bit
    return made(groups, betas=betas, weight_decay=0.0)
