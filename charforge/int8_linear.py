"""bitsandbytes' 8-bit linear for frozen weights, with a product that keeps nothing of its input.

Theirs holds every input until the graph is gone, although only the gradient of the weights would need it, and holds it
where recomputed layers cannot see it: on an H200 a step with recomputed layers took 3.4 GiB more than its shapes say
(docs/log.md). The forward pass is theirs to the bit.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import torch
from torch import Tensor


class Int8Product(torch.autograd.Function):
    """x @ W.T with W[i] = codes[i] * scales[i] / 127 and every row of ``x`` rounded to 8 bits as well.

    x: (rows, in) in fp32 or bf16; codes: (out, in) int8; scales: (out,) fp32, the largest absolute value of each row
    (LLM.int8, arXiv 2208.07339, section 3); bias: (out,) or None. Only ``x`` has a gradient: that of the product as if
    ``x`` had not been rounded.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(codes, scales)
        if x.shape[0] == 0:
            return x.new_empty(0, codes.shape[0])
        rounded, largest, _ = bnb.functional.int8_vectorwise_quant(x.half())
        product: Tensor = torch.ops.bitsandbytes.int8_scaled_mm.default(
            rounded, codes, largest, scales, bias=bias, dtype=x.dtype
        )
        return product

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = grads
        codes, scales = ctx.saved_tensors
        # the scales meet the gradient: to unpack the weights with them would be one more pass over all of them
        return (grad * (scales / 127).to(grad.dtype)) @ codes.to(grad.dtype), None, None, None


class Int8Linear(bnb.nn.Linear8bitLt):
    """The layer; with outlier columns (``threshold`` above 0) it computes as bitsandbytes does."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if self.state.threshold > 0:
            return super().forward(x)
        if getattr(self.weight, "CB", None) is not None:
            self.init_8bit_state()
        bias = None if self.bias is None else self.bias.to(x.dtype)
        out: Tensor = Int8Product.apply(x.reshape(-1, x.shape[-1]), self.state.CB, self.state.SCB, bias)
        return out.view(*x.shape[:-1], out.shape[-1])
