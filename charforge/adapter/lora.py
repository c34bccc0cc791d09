"""LoRA through peft on all seven linears of both experts; fp32 masters on a frozen base.

fp32 is not a luxury: bf16 masters lose updates of 1e-4 to rounding (ecosystem reports of reward collapse).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from torch import Tensor, nn

from charforge.adapter.low_rank import CONFIG, PREFIX, WEIGHTS, adapted_layers
from charforge.families.bagel.model import BagelModel
from charforge.files import write_atomic
from charforge.tensor_files import write_tensors


def lora_config(rank: int, alpha: int, generation: bool = True, first_layer: int = 0) -> LoraConfig:
    """All seven linears of the understanding expert from ``first_layer`` on and, unless ``generation`` is false, of
    the generation expert in all layers.
    """
    linears = r"(self_attn\.(q|k|v|o)_proj{0}|mlp{0}\.(gate|up|down)_proj)"
    # layer numbers that are at least first_layer, as a look-ahead: peft takes one pattern
    below = "|".join(str(layer) for layer in range(first_layer))
    layers = rf"(?!(?:{below})\.)\d+" if first_layer else r"\d+"
    pattern = rf"language_model\.model\.layers\.({layers}\.{linears.format('')}"
    pattern += rf"|\d+\.{linears.format('_moe_gen')})" if generation else ")"
    return LoraConfig(r=rank, lora_alpha=alpha, target_modules=pattern, bias="none")


def add_adapter(model: BagelModel, config: LoraConfig, seed: int) -> dict[str, nn.Parameter]:
    """Insert a fresh adapter (it does nothing yet: B is zero) and return its trainable parameters by name."""
    # peft draws A from the global generator; fork it so that nobody else's numbers move
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.requires_grad_(False)
        inject_adapter_in_model(config, model)
    parameters = {name: p for name, p in model.named_parameters() if "lora_" in name}
    for parameter in parameters.values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    for layer in adapted_layers(model):
        # autocast rounds the fp32 copy that peft would make right back to bf16: same bits, and every linear would keep
        # a copy of its own of what its neighbours share
        layer.cast_input_dtype_enabled = False  # type: ignore[assignment]
    return parameters


@contextmanager
def with_values(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> Iterator[None]:
    """The adapter with other ``values`` inside the block."""
    current = {name: parameter.data for name, parameter in parameters.items()}
    # autocast keeps bf16 copies of parameters by their identity: they would outlive the exchange
    torch.clear_autocast_cache()
    for name, parameter in parameters.items():
        parameter.data = values[name]
    try:
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = current[name]
        torch.clear_autocast_cache()


def adapter_state(model: BagelModel) -> dict[str, Tensor]:
    """The adapter's tensors (fp32, CPU) under PEFT file names."""
    state = get_peft_model_state_dict(model)
    return {PREFIX + name: tensor.detach().float().cpu().contiguous() for name, tensor in state.items()}


def rounded_to_bf16(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The adapter's values as bf16 holds them: measured with these, a file of half the size is what was measured."""
    return {name: parameter.detach().bfloat16().to(parameter.dtype) for name, parameter in parameters.items()}


def save_adapter(
    model: BagelModel, config: LoraConfig, folder: Path, base_name: str, dtype: torch.dtype = torch.float32
) -> None:
    """Write ``adapter_model.safetensors`` and ``adapter_config.json`` as stock peft reads them."""
    state = {name: tensor.to(dtype) for name, tensor in adapter_state(model).items()}
    write_tensors(folder / WEIGHTS, state, {"format": "pt"})
    plain = {key: value for key, value in config.to_dict().items() if _is_plain(value)}
    plain["base_model_name_or_path"] = base_name
    write_atomic(folder / CONFIG, json.dumps(plain, indent=2, sort_keys=True, default=str))


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)
