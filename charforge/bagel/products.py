"""The matrix products of inference: linears that read the same input as one product, the adapter's part beside it.

The adapter is not folded into the weights: in bf16 their sum would be rounded. Kept beside them, replies stay what they
were, and guidance has the bare base in the same pass (docs/log.md, 2026-11-26, replies and pictures at speed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charforge.adapter.low_rank import Addition, addition_of

LEAST_ROWS = 4
"""oneDNN's kernels for one and two rows read the same weights more slowly than the one for four: products with a
packed matrix are filled up to four rows (docs/log.md, 2026-11-26)."""


@dataclass(frozen=True)
class Product:
    """Linears that read the same input, their outputs behind each other: (..., in) -> (..., out in all).

    ``packed`` is their weight in the order in which this processor reads it fastest, see :func:`pack_linears`.
    ``a`` (ranks, in) and ``b`` (out in all, ranks) are what the adapter adds, in fp32 on CPUs.
    """

    linears: tuple[nn.Module, ...]
    packed: PackedWeight | None
    a: Tensor | None
    b: Tensor | None

    def __call__(self, x: Tensor, adapted: int) -> Tensor:
        """The product of ``x`` (rows, n, in); the adapter acts on the first ``adapted`` rows."""
        out = self._base(x)
        if self.a is None or self.b is None or not adapted:
            return out
        some = x[:adapted].to(self.a.dtype)
        # rounded to the type of the base before it is added, as in the layer that was trained
        low = F.linear(F.linear(some, self.a).to(x.dtype).to(self.a.dtype), self.b).to(out.dtype)
        if adapted == out.shape[0]:
            return out + low
        return torch.cat([out[:adapted] + low, out[adapted:]])

    def _base(self, x: Tensor) -> Tensor:
        if self.packed is not None:
            return self.packed(x)
        parts = [linear(x) for linear in self.linears]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


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
    """Whether these are plain linears on a CPU whose PyTorch carries oneDNN's packed products."""
    plain = all(type(linear) is nn.Linear and linear.weight.device.type == "cpu" for linear in linears)
    return plain and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


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
    layers: Sequence[nn.Module], outputs: Sequence[int], packed: PackedWeight | None, dtype: torch.dtype
) -> Product:
    """One product of ``layers`` with ``outputs`` columns each, and what their adapters add to them now.

    ``dtype`` is what the base computes in.
    """
    linears = tuple(base_of(layer) for layer in layers)
    additions = [addition_of(layer) for layer in layers]
    if not any(additions):
        return Product(linears, packed, None, None)
    a, b = _beside(additions, outputs, dtype)
    # many small bf16 products cost oneDNN more in calls than in arithmetic: fp32 holds the same values, and is quicker
    kept = torch.float32 if a.device.type == "cpu" else dtype
    return Product(linears, packed, a.to(kept), b.to(kept))


def _beside(additions: Sequence[Addition | None], outputs: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """All A (ranks, in) below each other, and B (outputs in all, ranks) as a block diagonal with the strength in it.

    Both hold what ``dtype`` holds of the adapter: autocast would round it to that as well.
    """
    blocks = [
        addition[2] * addition[1].detach().to(dtype).float() if addition else torch.zeros(columns, 0)
        for addition, columns in zip(additions, outputs, strict=True)
    ]
    known = [addition[0].detach().to(dtype).float() for addition in additions if addition]
    return torch.cat(known), torch.block_diag(*(block.to(known[0].device) for block in blocks))
