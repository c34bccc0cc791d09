"""Cross-entropy behind a frozen output head without keeping its logits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor, chunk: int = 1024) -> Tensor:
    """Summed cross-entropy of ``hidden @ weight.T`` against ``labels`` (n,); a scalar in fp32.

    hidden (n, H), weight (vocabulary, H): frozen, it gets no gradient. ``chunk`` rows of logits exist at a time, and
    only while the loss is computed: the gradient of hidden is made beside it, as in Liger Kernel's fused linear
    cross-entropy (Hsu et al. 2024). A vocabulary of 152 thousand makes a thousand rows of logits half a gigabyte.
    """
    return _LinearCrossEntropy.apply(hidden, weight, labels, chunk)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, chunk: int) -> Tensor:
        total = torch.zeros((), device=hidden.device)
        gradients: list[Tensor] = []
        for rows, wanted in zip(hidden.split(chunk), labels.split(chunk), strict=True):
            logits = F.linear(rows, weight)
            values = logits.float()
            likelihoods = values - values.logsumexp(-1, keepdim=True)
            total += -likelihoods.gather(1, wanted[:, None]).sum()
            if ctx.needs_input_grad[0]:
                # d loss / d logits = softmax - one hot
                slope = likelihoods.exp_()
                slope[torch.arange(len(wanted), device=wanted.device), wanted] -= 1
                gradients.append(F.linear(slope.to(logits.dtype), weight.t()).to(hidden.dtype))
        if gradients:
            ctx.save_for_backward(torch.cat(gradients))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = grads
        (gradient,) = ctx.saved_tensors
        return gradient * grad.to(gradient.dtype), None, None, None
