"""A low-rank addition beside a frozen linear: for use, not for training. Switched on and off together with peft's.

Nothing of peft is imported here: loading it takes longer than a reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charforge.errors import InputError
from charforge.tensor_files import read_tensors

# PEFT files name parameters as seen from a PeftModel; stock peft strips this again
PREFIX = "base_model.model."
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
ADAPTED = re.compile(
    r"language_model\.model\.layers\.(?P<layer>\d+)\."
    r"(self_attn\.(q|k|v|o)_proj(_moe_gen)?|mlp(_moe_gen)?\.(gate|up|down)_proj)"
)
"""The linears that an adapter may change: all seven of both experts in every layer."""


def carries_adapter(name: str, first_layer: int) -> bool:
    """Whether a module of this name is changed by an adapter whose part in the understanding expert begins at
    ``first_layer``; the generation expert's is in all layers.
    """
    found = ADAPTED.fullmatch(name)
    return found is not None and ("_moe_gen" in name or int(found["layer"]) >= first_layer)


def first_layer_of(names: Iterable[str]) -> int:
    """The lowest layer of the understanding expert that an adapter with tensors of these names touches; 0 if none."""
    matches = (re.search(r"\.layers\.(\d+)\.", name) for name in names if "_moe_gen" not in name)
    return min((int(match[1]) for match in matches if match), default=0)


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


def load_adapter(model: nn.Module, folder: Path, dtype: torch.dtype) -> None:
    """Put the adapter of ``folder`` (PEFT files) beside the linears of a bare ``model``, in ``dtype``: for use.

    Raises InputError when tensors are missing, unexpected or misshapen for this base.
    """
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    rank, strength = int(config["r"]), float(config["lora_alpha"]) / int(config["r"])
    state, _ = read_tensors(folder / WEIGHTS, "train it again, or ask for a fresh export")
    first_layer = first_layer_of(state)
    linears = {name: module for name, module in model.named_modules() if carries_adapter(name, first_layer)}
    shapes = _adapter_shapes(linears, rank)
    wrong = sorted(set(shapes) ^ set(state))
    wrong += [name for name in set(shapes) & set(state) if tuple(state[name].shape) != shapes[name]]
    if wrong:
        raise InputError(f"the adapter does not fit this base ({len(wrong)} tensors differ, first: {wrong[0]})")
    for name, linear in linears.items():
        device = linear.get_parameter("weight").device
        a, b = (state[f"{PREFIX}{name}.lora_{letter}.weight"].to(device, dtype) for letter in "AB")
        model.set_submodule(name, LowRankLinear(linear, a, b, strength))


def _adapter_shapes(linears: dict[str, nn.Module], rank: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes that the adapter file for ``linears`` has to hold."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, linear in linears.items():
        shapes[f"{PREFIX}{name}.lora_A.weight"] = (rank, int(linear.in_features))  # type: ignore[arg-type]
        shapes[f"{PREFIX}{name}.lora_B.weight"] = (int(linear.out_features), rank)  # type: ignore[arg-type]
    return shapes
