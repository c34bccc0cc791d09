"""Choosing the next token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

COLDEST = 1e-4
"""A temperature below this is 0."""


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
    """Sample token ids (rows,) from logits (rows, vocabulary) with temperature and top-p; greedy at temperature 0.

    The ids are on the CPU, whatever the device of ``logits``: a GPU is read once a token.
    """
    # so cold that only the likeliest is left; divided by less, numbers of 32 bits have no end
    if temperature < COLDEST:
        return logits.argmax(-1).cpu()
    probabilities = (logits.float() / temperature).softmax(-1).cpu()
    sorted_rows = [_nucleus_of(row, top_p) for row in probabilities]
    weights = torch.stack([weight for weight, _ in sorted_rows])
    picked = torch.multinomial(weights, 1, generator=generator)
    return torch.cat([ids[place] for (_, ids), place in zip(sorted_rows, picked, strict=True)])


def _nucleus_of(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The nucleus of ``probabilities`` (vocabulary,), likeliest first: weights, and the ids of those that are not 0.

    The weights are as many as the vocabulary: what a seed draws must not depend on how many tokens come into question.
    """
    # what is less likely than this holds less than 1 - top_p of the mass in all: sorting the rest, a few hundred tokens
    # of 49 thousand, finds the nucleus in a small part of the time
    ids = (probabilities >= (1 - top_p) / len(probabilities)).nonzero()[:, 0]
    ordered, order = probabilities[ids].sort(descending=True, stable=True)
    # a token stays while the mass before it is below top_p: the first always stays
    ordered = ordered * (ordered.cumsum(-1) - ordered < top_p)
    return F.pad(ordered, (0, len(probabilities) - len(ordered))), ids[order]
