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


def load_adapter(model: UnifiedModel, folder: Path, dtype: torch.dtype) -> None:
    """Put the adapter of ``folder`` (PEFT files) beside the linears of a bare ``model``, in ``dtype``: for use.

    Raises InputError when tensors are missing, unexpected or misshapen for this base.
    """
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    rank, strength = int(config["r"]), float(config["lora_alpha"]) / int(config["r"])
    state, _ = read_tensors(folder / WEIGHTS, "train it again, or ask for a fresh export")
    linears = model.shapes.adapter_linears(first_layer_of(state, model.shapes))
    expected = tensor_shapes(linears, rank)
    wrong = sorted(set(expected) ^ set(state))
    wrong += [name for name in set(expected) & set(state) if tuple(state[name].shape) != expected[name]]
    if wrong:
        raise InputError(f"the adapter does not fit this base ({len(wrong)} tensors differ, first: {wrong[0]})")
    for name in linears:
        linear = model.network.get_submodule(name)
        device = linear.get_parameter("weight").device
        a, b = (state[f"{PREFIX}{name}.lora_{letter}.weight"].to(device, dtype) for letter in "AB")
        model.network.set_submodule(name, LowRankLinear(linear, a, b, strength))
