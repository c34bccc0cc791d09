"""8-bit and 4-bit linears through bitsandbytes.

int8 is LLM.int8 with threshold 0 unless told otherwise: with outlier columns (the published 6.0) the result of a row
depends on its neighbours in the batch, and sampling and training would disagree (method.md section 4).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

KINDS = ("int8", "nf4")
NF4_BLOCK = 64
MOST_INT8_ERROR = 0.02
"""Of one product. Rounding costs .010; on a CPU without 8-bit dot products it was .039, and .27 after four layers
(docs/log.md)."""


@cache
def is_int8_right(device: str) -> bool:
    """Whether the int8 product on ``device`` comes out near the true one.

    On CPUs without 8-bit dot products (VNNI) the sums overflow, and nothing says so.
    """
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(256, 256, bias=False)
    linear.weight.data = torch.randn(256, 256, generator=generator) / 16
    x = torch.randn(32, 256, generator=generator)
    with torch.no_grad():
        true = x @ linear.weight.T
        rounded = quantised_linear(linear.eval(), linear.weight.data, "int8", device)(x.to(device)).float().cpu()
    return ((rounded - true).norm() / true.norm()).item() < MOST_INT8_ERROR


def quantised_bytes(linear: nn.Linear, kind: str) -> int:
    """Bytes of the weight once it is quantised, scales included: one fp32 a row (int8), one a block (nf4)."""
    rows, columns = linear.out_features, linear.in_features
    return rows * columns + 4 * rows if kind == "int8" else rows * columns // 2 + 4 * rows * columns // NF4_BLOCK


def quantised_linear(
    like: nn.Linear, weight: Tensor, kind: str, device: str | torch.device, int8_threshold: float = 0.0
) -> nn.Module:
    """A frozen bitsandbytes layer of the shape of ``like`` holding ``weight`` (out, in; CPU) on ``device``.

    Its bias, where ``like`` has one, is left on the meta device for the caller to set. Peak host memory is the
    weight and one copy of it.
    """
    import bitsandbytes as bnb

    shape, bias, meta = (like.in_features, like.out_features), like.bias is not None, torch.device("meta")
    parameter: Any
    if kind == "int8":
        from charforge.int8_linear import Int8Linear

        new: nn.Module = Int8Linear(*shape, bias, has_fp16_weights=False, threshold=int8_threshold, device=meta)
        parameter = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        four_bit = bnb.nn.Linear4bit(*shape, bias, quant_type="nf4", compute_dtype=torch.bfloat16, device=meta)
        # bitsandbytes repacks weights on CPUs with bf16 instructions at the first evaluation; the repacked product has
        # no backward (training after an evaluation fails or goes without gradient) and undoing it rounds the weights
        four_bit.support_avx512bf16_for_cpu = False
        parameter = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", module=four_bit)
        new = four_bit
    # bitsandbytes quantises a parameter when it is moved to its device, also when that is the CPU
    new.weight = parameter.to(device)
    # with outlier columns bitsandbytes on a CPU multiplies in int8 in evaluation mode only
    return new.train(like.training).requires_grad_(False)
