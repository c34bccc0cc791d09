"""An adapter of a smaller rank: of every change B @ A the largest singular values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reduction:
    """``state`` under the same names, its strength inside. What is lost is a share of the size (Frobenius norm) of the
    change: of all linears together, and of the one that loses most.
    """

    state: dict[str, Tensor]
    lost: float
    most_lost: float
    where: str


@torch.no_grad()
def reduce_rank(state: Mapping[str, Tensor], strength: float, rank: int) -> Reduction:
    """The best approximation of ``strength * B @ A`` by ``rank``, linear by linear, in the type of the tensors.

    ``state`` has names that end in .lora_A.weight (r, in) and .lora_B.weight (out, r).
    """
    small: dict[str, Tensor] = {}
    dropped_all = whole_all = 0.0
    most, where = 0.0, ""
    for name in sorted(state):
        if not name.endswith(".lora_A.weight"):
            continue
        linear = name.removesuffix(".lora_A.weight")
        a, b = state[name], state[f"{linear}.lora_B.weight"]
        # the product is never formed: its singular values are those of an r x r matrix
        left, in_left = torch.linalg.qr(b.float() * strength)
        right, in_right = torch.linalg.qr(a.float().T)
        u, values, v = torch.linalg.svd(in_left @ in_right.T)
        root = values[:rank].sqrt()
        small[name] = (root[:, None] * (v[:rank] @ right.T)).to(a.dtype).contiguous()
        small[f"{linear}.lora_B.weight"] = ((left @ u[:, :rank]) * root).to(b.dtype).contiguous()
        squares = values.double() ** 2
        dropped, whole = float(squares[rank:].sum()), float(squares.sum())
        dropped_all, whole_all = dropped_all + dropped, whole_all + whole
        if whole and (dropped / whole) ** 0.5 > most:
            most, where = (dropped / whole) ** 0.5, linear
    return Reduction(small, (dropped_all / whole_all) ** 0.5 if whole_all else 0.0, most, where)
