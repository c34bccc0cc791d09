"""The matrix products of inference: linears that read the same input as one product, the adapter's part beside it.

The adapter is not folded into the weights: in bf16 their sum would be rounded. Kept beside them nothing is added to the
rounding, and guidance has the bare base in the same pass (docs/log.md, 2026-11-26, replies and pictures at speed).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charforge.low_rank import Addition, Chosen, addition_of, choosing

LEAST_ROWS = 4
"""oneDNN's kernels for one and two rows read the same weights more slowly than the one for four: products with a
packed matrix are filled up to four rows (docs/log.md, 2026-11-26)."""


@dataclass(frozen=True)
class Product:
    """Linears that read the same input, their outputs behind each other: (..., in) -> (..., out in all).

    ``packed`` is their weight in the order in which this processor reads it fastest, see :func:`pack_linears`.
    ``addition`` is what the adapter adds to them now, or ``by_row`` what several adapters add, each to some rows.
    """

    linears: tuple[nn.Module, ...]
    packed: PackedWeight | None
    addition: LowRank | None
    by_row: tuple[tuple[Tensor, LowRank], ...] = ()

    def __call__(self, x: Tensor, adapted: int) -> Tensor:
        """The product of ``x`` (rows, n, in). The adapter acts on the first ``adapted`` rows; where rows have adapters
        of their own, these act on all."""
        out = self._base(x)
        if self.addition is not None and adapted:
            out[:adapted] += self.addition(x[:adapted])
        for rows, addition in self.by_row:
            out.index_add_(0, rows, addition(x[rows]))
        return out

    def _base(self, x: Tensor) -> Tensor:
        if self.packed is not None:
            return self.packed(x)
        parts = [linear(x) for linear in self.linears]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


@dataclass(frozen=True)
class LowRank:
    """``b a x`` of linears that read the same input, their outputs behind each other.

    ``a`` (ranks, in) has all their A below each other. ``blocks`` are their B (out, rank) with the strength in them, or
    one block diagonal of all: fewer products, of which more is zero.
    """

    a: Tensor
    blocks: tuple[Tensor, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out in all) in the type of ``x``, rounded to it where the layer that was trained is."""
        low = F.linear(x.to(self.a.dtype), self.a).to(x.dtype).to(self.a.dtype)
        parts = low.split([block.shape[1] for block in self.blocks], dim=-1)
        return torch.cat([F.linear(*pair) for pair in zip(parts, self.blocks, strict=True)], dim=-1).to(x.dtype)


@dataclass(frozen=True)
class PackedWeight:
    """A weight (out, in) in oneDNN's own order, its bias, and zeros (LEAST_ROWS, in) to fill rows up with."""

    weight: Tensor
    bias: Tensor | None
    filler: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        rows = x.reshape(-1, x.shape[-1])
        count = rows.shape[0]
        if count < LEAST_ROWS:
            rows = torch.cat([rows, self.filler[count:]])
        out = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "")
        return out[:count].view(*x.shape[:-1], -1)


def can_pack(linears: Sequence[nn.Module]) -> bool:
    """Whether these are plain linears on a CPU whose PyTorch carries oneDNN's packed products for their type."""
    plain = all(type(linear) is nn.Linear and linear.weight.device.type == "cpu" for linear in linears)
    return plain and all(_packs(linear.get_parameter("weight").dtype) for linear in linears)


@cache
def _packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN orders weights of this type here: it is asked, because what it may use can be limited from
    outside (ONEDNN_MAX_CPU_ISA), whatever the processor is."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    try:
        torch.ops.mkldnn._reorder_linear_weight(torch.zeros(16, 16, dtype=dtype), 2 * LEAST_ROWS)
    except RuntimeError:
        return False
    return True


def pack_weight(weight: Tensor, bias: Tensor | None = None) -> PackedWeight:
    """A second copy of ``weight`` (out, in; CPU, fp32 or bf16), in the order that is read fastest."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 2 * LEAST_ROWS)
    return PackedWeight(packed, bias, weight.new_zeros(LEAST_ROWS, weight.shape[1]))


def pack_linears(linears: Sequence[nn.Module]) -> PackedWeight:
    """The weights of plain ``linears`` below each other, packed."""
    weights: list[Tensor] = [linear.get_parameter("weight") for linear in linears]
    biases = [linear.bias for linear in linears if isinstance(linear.bias, Tensor)]
    return pack_weight(torch.cat(weights), torch.cat(biases) if biases else None)


def base_of(layer: nn.Module) -> nn.Module:
    """The linear under an adapter, or ``layer`` itself."""
    return layer.base_layer if hasattr(layer, "base_layer") else layer  # type: ignore[return-value]


def product(
    layers: Sequence[nn.Module],
    outputs: Sequence[int],
    packed: PackedWeight | None,
    dtype: torch.dtype,
    few_tokens: bool,
    choices: Mapping[Chosen | None, Tensor] | None = None,
) -> Product:
    """One product of ``layers`` with ``outputs`` columns each, and what their adapters add to them now.

    ``dtype`` is what the base computes in. ``few_tokens`` says that calls cost more than arithmetic will. With
    ``choices`` rows have adapters of their own: the rows (k,) by what acts on them.
    """
    linears = tuple(base_of(layer) for layer in layers)

    def acting_addition() -> LowRank | None:
        additions = [addition_of(layer) for layer in layers]
        return _low_rank(additions, outputs, dtype, few_tokens) if any(additions) else None

    if choices is None:
        return Product(linears, packed, acting_addition())
    by_row = []
    for chosen, rows in choices.items():
        with choosing(chosen):
            if (addition := acting_addition()) is not None:
                by_row.append((rows, addition))
    return Product(linears, packed, None, tuple(by_row))


def _low_rank(
    additions: Sequence[Addition | None], outputs: Sequence[int], dtype: torch.dtype, few_tokens: bool
) -> LowRank:
    def rounded(matrix: Tensor) -> Tensor:
        # to what ``dtype`` holds of the adapter: autocast would do so as well
        return matrix.detach().to(dtype).float()

    a = torch.cat([rounded(each[0]) for each in additions if each])
    blocks = [
        each[2] * rounded(each[1]) if each else a.new_zeros(columns, 0)
        for each, columns in zip(additions, outputs, strict=True)
    ]
    if few_tokens:
        blocks = [torch.block_diag(*blocks)]
    # a small bf16 product takes oneDNN longer to begin than to do; fp32 holds the same values, and is quicker
    kept = torch.float32 if few_tokens and a.device.type == "cpu" else dtype
    return LowRank(a.to(kept), tuple(block.to(kept) for block in blocks))
