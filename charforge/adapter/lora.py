"""LoRA through peft on all seven linears of both experts; fp32 masters on a frozen base.

fp32 is not a luxury: bf16 masters lose updates of 1e-4 to rounding (ecosystem reports of reward collapse).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from charforge.bagel.model import BagelModel
from charforge.errors import InputError
from charforge.files import write_atomic
from charforge.tensor_files import read_tensors, write_tensors

# PEFT files name parameters as seen from a PeftModel; stock peft strips this again
PREFIX = "base_model.model."
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def lora_config(rank: int, alpha: int, generation: bool = True) -> LoraConfig:
    """All seven linears of the understanding expert and, unless ``generation`` is false, of the generation expert."""
    expert = "(_moe_gen)?" if generation else ""
    pattern = (
        rf"language_model\.model\.layers\.\d+\."
        rf"(self_attn\.(q|k|v|o)_proj{expert}|mlp{expert}\.(gate|up|down)_proj)"
    )
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
    for layer in lora_layers(model):
        # autocast rounds the fp32 copy that peft would make right back to bf16: same bits, and every linear would keep
        # a copy of its own of what its neighbours share
        layer.cast_input_dtype_enabled = False  # type: ignore[assignment]
    return parameters


def lora_layers(model: nn.Module) -> list[LoraLayer]:
    """All layers that carry an adapter."""
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """The bare base inside the block; blocks may stand in each other. Trainability of parameters is untouched."""
    layers = [layer for layer in lora_layers(model) if not layer._disable_adapters]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def adapter_acts(model: nn.Module) -> bool:
    """Whether the model differs from the bare base: it has an adapter, and that is on."""
    return any(not layer._disable_adapters for layer in lora_layers(model))


def adapter_state(model: BagelModel) -> dict[str, Tensor]:
    """The adapter's tensors (fp32, CPU) under PEFT file names."""
    state = get_peft_model_state_dict(model)
    return {PREFIX + name: tensor.detach().float().cpu().contiguous() for name, tensor in state.items()}


def round_to_bf16(parameters: dict[str, nn.Parameter]) -> None:
    """Round the finished adapter to what bf16 holds: a file of half the size is then exactly what was measured."""
    for parameter in parameters.values():
        parameter.data.copy_(parameter.data.bfloat16())


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


def load_adapter(model: BagelModel, folder: Path) -> LoraConfig:
    """Insert the adapter of ``folder`` into a bare model, for use, not for training.

    Raises InputError when tensors are missing, unexpected or misshapen for this base.
    """
    raw = json.loads((folder / CONFIG).read_text("utf-8"))
    config = lora_config(int(raw["r"]), int(raw["lora_alpha"]))
    add_adapter(model, config, seed=0)
    load_adapter_state(model, read_tensors(folder / WEIGHTS, "train it again, or ask for a fresh export")[0])
    model.requires_grad_(False)
    return config


def load_adapter_state(model: BagelModel, state: dict[str, Tensor]) -> None:
    """Fill the inserted adapter; every tensor must be expected and every expected one present."""
    expected = adapter_shapes(model)
    wrong = sorted(set(expected) ^ set(state))
    wrong += [name for name in set(expected) & set(state) if tuple(state[name].shape) != expected[name]]
    if wrong:
        raise InputError(f"the adapter does not fit this base ({len(wrong)} tensors differ, first: {wrong[0]})")
    set_peft_model_state_dict(model, {name.removeprefix(PREFIX): tensor for name, tensor in state.items()})


def adapter_shapes(model: BagelModel) -> dict[str, tuple[int, ...]]:
    """Names and shapes that an adapter file for ``model`` (adapter inserted) has to hold."""
    return {PREFIX + name: tuple(tensor.shape) for name, tensor in get_peft_model_state_dict(model).items()}
