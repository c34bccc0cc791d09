"""Low-rank additions beside frozen linears: several by name on one base, and which of them act is said for each call.

``with acting("wren"):`` holds for what is called inside the block, in this thread or task, and for nobody else: two
conversations with two characters on one base cannot disturb each other. Nothing of peft is imported here: loading it
takes longer than a reply. The layers that peft makes for training have one adapter and no name; :func:`adapter_off`
switches those off as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Addition = tuple[Tensor, Tensor, float]
"""A (rank, in), B (out, rank) and the strength of ``strength * B @ A``."""
Chosen = tuple[tuple[str, float], ...]
"""Names of adapters, each with a factor on its strength."""

_ACTING: ContextVar[Chosen | None] = ContextVar("acting adapters", default=None)


@contextmanager
def acting(*adapters: str | tuple[str, float]) -> Iterator[None]:
    """Inside the block these act: names, or pairs of name and factor. Without any it is the bare base."""
    with choosing(tuple(adapter if isinstance(adapter, tuple) else (adapter, 1.0) for adapter in adapters)):
        yield


def chosen_now() -> Chosen | None:
    """What has been chosen here; None where nothing has been."""
    return _ACTING.get()


@contextmanager
def choosing(chosen: Chosen | None) -> Iterator[None]:
    """Inside the block it is as where :func:`chosen_now` said ``chosen``."""
    token = _ACTING.set(chosen)
    try:
        yield
    finally:
        _ACTING.reset(token)


def add_product(out: Tensor, x: Tensor, a: Tensor, b: Tensor, strength: float) -> Tensor:
    """``out + strength * B A x`` in the memory of ``out`` (rows, out), with x (rows, in), A (rank, in), B (out, rank).

    One product that goes over ``out`` once. Multiplied, scaled and added one after the other it is three kernels over
    all of it, of which the second alone was a 27th of a step on an H200 (docs/log.md).
    """
    if not torch.is_autocast_enabled(x.device.type):
        # autocast does the same, once for all passes of a step
        a = a.to(x.dtype)
    low = F.linear(x, a).to(out.dtype)
    return out.addmm_(low, b.to(out.dtype).t(), alpha=strength)


class LowRankLinear(nn.Module):
    """``base_layer(x) + strength * B A x`` of each adapter that acts, as the layer in training computes it.

    Where nothing has been chosen, the one that is there acts.
    """

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_A, self.lora_B = nn.ParameterDict(), nn.ParameterDict()
        self.strengths: dict[str, float] = {}

    def add(self, name: str, addition: Addition) -> None:
        """Hold one more; one of the same name is replaced."""
        a, b, self.strengths[name] = addition
        self.lora_A[name] = nn.Parameter(a, requires_grad=False)
        self.lora_B[name] = nn.Parameter(b, requires_grad=False)

    def additions(self) -> list[Addition]:
        """Those that act now. Raises ValueError where several are held and none has been chosen."""
        chosen = _ACTING.get()
        if chosen is None:
            if len(self.strengths) > 1:
                raise ValueError(f"{', '.join(self.strengths)} are on this base: choose with `with acting(NAME)`")
            chosen = tuple((name, 1.0) for name in self.strengths)
        return [
            (self.lora_A[name], self.lora_B[name], factor * self.strengths[name])
            for name, factor in chosen
            if name in self.strengths
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        rows = x.reshape(-1, x.shape[-1])
        out: Tensor = self.base_layer(rows)
        for a, b, strength in self.additions():
            out = add_product(out, rows, a, b, strength)
        return out.view(*x.shape[:-1], out.shape[-1])


def adapted_layers(network: nn.Module) -> list[nn.Module]:
    """All layers that carry an adapter, ours and peft's."""
    return [module for module in network.modules() if hasattr(module, "lora_A") and hasattr(module, "base_layer")]


def adapter_names(network: nn.Module) -> set[str]:
    """Those that are held for use."""
    return {name for layer in network.modules() if isinstance(layer, LowRankLinear) for name in layer.strengths}


def addition_of(layer: nn.Module) -> Addition | None:
    """What is added to the product of ``layer`` now; None where nothing is. Several are one of their ranks together."""
    if isinstance(layer, LowRankLinear):
        additions = layer.additions()
        if len(additions) < 2:
            return additions[0] if additions else None
        scaled = [strength * b for _, b, strength in additions]
        return torch.cat([a for a, _, _ in additions]), torch.cat(scaled, dim=1), 1.0
    if not hasattr(layer, "lora_A") or layer._disable_adapters:
        return None
    peft: Any = layer
    # peft keeps its adapters by name; training makes one at a time
    (name,) = peft.active_adapters
    return peft.lora_A[name].weight, peft.lora_B[name].weight, peft.scaling[name]


@contextmanager
def adapter_off(network: nn.Module) -> Iterator[None]:
    """The bare base inside the block, also where ``network`` is in training; blocks may stand in each other.

    Trainability of parameters is untouched.
    """
    in_training = [layer for layer in adapted_layers(network) if not isinstance(layer, LowRankLinear)]
    switched = [layer for layer in in_training if not layer._disable_adapters]
    for layer in switched:
        layer._disable_adapters = True  # type: ignore[assignment]
    try:
        with acting():
            yield
    finally:
        for layer in switched:
            layer._disable_adapters = False  # type: ignore[assignment]
