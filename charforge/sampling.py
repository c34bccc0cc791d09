"""Choosing the next token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def penalised(logits: Tensor, said: Sequence[int], penalty: float) -> Tensor:
    """Logits (rows, vocabulary) with those of tokens that were ``said`` before made smaller: divided by ``penalty``
    where positive, multiplied where negative (Keskar et al. 2019, section 4.1). Small models go in circles without.
    """
    if penalty == 1.0 or not said:
        return logits
    ids = torch.tensor(sorted(set(said)), device=logits.device)
    before = logits[:, ids]
    changed = logits.clone()
    changed[:, ids] = torch.where(before > 0, before / penalty, before * penalty)
    return changed


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
