"""Choosing the next token."""

from __future__ import annotations

import torch
from torch import Tensor


def nucleus(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> Tensor:
    """Sample token ids (rows,) from logits (rows, vocabulary) with temperature and top-p; greedy at temperature 0."""
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits.float() / temperature).softmax(-1)
    ordered, ids = probabilities.sort(-1, descending=True)
    # a token stays while the mass before it is below top_p: the first always stays
    ordered = ordered * (ordered.cumsum(-1) - ordered < top_p)
    picked = torch.multinomial(ordered.cpu(), 1, generator=generator).to(ids.device)
    return ids.gather(-1, picked).squeeze(-1)
