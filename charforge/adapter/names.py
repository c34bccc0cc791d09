"""How the files of an adapter are named: stock peft's way. No torch."""

from __future__ import annotations

from collections.abc import Mapping

PREFIX = "base_model.model."
"""PEFT files name parameters as seen from a PeftModel; stock peft strips this again."""
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def tensor_shapes(linears: Mapping[str, tuple[int, int]], rank: int) -> dict[str, tuple[int, int]]:
    """Names and shapes of the tensors of an adapter file for ``linears`` ((inputs, outputs) by name)."""
    shapes: dict[str, tuple[int, int]] = {}
    for name, (inputs, outputs) in linears.items():
        shapes[f"{PREFIX}{name}.lora_A.weight"] = (rank, inputs)
        shapes[f"{PREFIX}{name}.lora_B.weight"] = (outputs, rank)
    return shapes
