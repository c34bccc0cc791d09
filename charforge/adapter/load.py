"""An adapter from its files, put beside the linears of a base: for use, not for training. No peft."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import torch

from charforge.adapter.names import CONFIG, PREFIX, WEIGHTS, tensor_shapes
from charforge.errors import InputError
from charforge.families.protocol import Shapes, UnifiedModel
from charforge.low_rank import LowRankLinear
from charforge.tensor_files import read_tensors


def first_layer_of(names: Iterable[str], shapes: Shapes) -> int:
    """The lowest layer that an adapter with tensors of these names touches for texts; 0 if none."""
    layers = [re.search(r"\.(\d+)\.", name) for name in names if shapes.role_of(name) == "text"]
    return min((int(found[1]) for found in layers if found), default=0)


def load_adapter(model: UnifiedModel, folder: Path, dtype: torch.dtype, name: str = "adapter") -> None:
    """Put the adapter of ``folder`` (PEFT files) beside the linears of ``model`` under ``name``, in ``dtype``: for use.

    Others that are there stay. Raises InputError when tensors are missing, unexpected or misshapen for this base, and
    when all they add is zero.
    """
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    rank, strength = int(config["r"]), float(config["lora_alpha"]) / int(config["r"])
    state, _ = read_tensors(folder / WEIGHTS, "train it again, or ask for a fresh export")
    linears = model.shapes.adapter_linears(first_layer_of(state, model.shapes))
    expected = tensor_shapes(linears, rank)
    wrong = sorted(set(expected) ^ set(state))
    wrong += [key for key in set(expected) & set(state) if tuple(state[key].shape) != expected[key]]
    if wrong:
        raise InputError(f"the adapter does not fit this base ({len(wrong)} tensors differ, first: {wrong[0]})")
    if not any(state[key].any() for key in state if ".lora_B." in key):
        raise InputError("the adapter is all zeros: it changes nothing. Train it again, or ask for a fresh export")
    for linear in linears:
        layer = model.network.get_submodule(linear)
        if not isinstance(layer, LowRankLinear):
            layer = LowRankLinear(layer)
            model.network.set_submodule(linear, layer)
        device = layer.base_layer.get_parameter("weight").device
        a, b = (state[f"{PREFIX}{linear}.lora_{letter}.weight"].to(device, dtype) for letter in "AB")
        layer.add(name, (a, b, strength))
