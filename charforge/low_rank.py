"""A low-rank addition beside a frozen linear: for use, not for training. Switched on and off together with peft's.

Nothing of peft is imported here: loading it takes longer than a reply.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

Addition = tuple[Tensor, Tensor, float]
"""A (rank, in), B (out, rank) and the strength of ``strength * B @ A``."""


class LowRankLinear(nn.Module):
    """``base_layer(x) + strength * B A x``, rounded where peft's layer rounds: the same bits."""

    def __init__(self, base_layer: nn.Module, a: Tensor, b: Tensor, strength: float) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.Parameter(a, requires_grad=False)
        self.lora_B = nn.Parameter(b, requires_grad=False)
        self.strength = strength
        # the name under which peft's layers keep the same switch
        self._disable_adapters = False

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        out = self.base_layer(x)
        if self._disable_adapters:
            return out
        low = F.linear(F.linear(x.to(self.lora_A.dtype), self.lora_A), self.lora_B)
        return (out + low * self.strength).to(out.dtype)


def adapted_layers(model: nn.Module) -> list[nn.Module]:
    """All layers that carry an adapter, ours and peft's."""
    return [module for module in model.modules() if hasattr(module, "lora_A") and hasattr(module, "base_layer")]


def addition_of(layer: nn.Module) -> Addition | None:
    """What the adapter of ``layer`` adds to it now; None where it has none or it is switched off."""
    if not hasattr(layer, "lora_A") or layer._disable_adapters:
        return None
    if isinstance(layer, LowRankLinear):
        return layer.lora_A, layer.lora_B, layer.strength
    peft: Any = layer
    # peft keeps its adapters by name; charforge makes one at a time
    (name,) = peft.active_adapters
    return peft.lora_A[name].weight, peft.lora_B[name].weight, peft.scaling[name]


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """The bare base inside the block; blocks may stand in each other. Trainability of parameters is untouched."""
    layers = [layer for layer in adapted_layers(model) if not layer._disable_adapters]
    for layer in layers:
        layer._disable_adapters = True  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False  # type: ignore[assignment]


def adapter_acts(model: nn.Module) -> bool:
    """Whether the model differs from the bare base: it has an adapter, and that is on."""
    return any(not layer._disable_adapters for layer in adapted_layers(model))
