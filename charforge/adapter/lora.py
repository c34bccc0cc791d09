"""LoRA through peft on the linears that a family names; fp32 masters on a frozen base.

fp32 is not a luxury: bf16 masters lose updates of 1e-4 to rounding (ecosystem reports of reward collapse).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.lora import Linear
from torch import Tensor, nn

from charforge.adapter.names import CONFIG, PREFIX, WEIGHTS
from charforge.families.protocol import Role, Shapes
from charforge.files import write_atomic
from charforge.low_rank import add_product, addition_of
from charforge.tensor_files import write_tensors


class LoraLinear(Linear):
    """peft's layer for linears in any precision, with its part added in the memory of the base's product."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """(..., in) -> (..., out)."""
        # a product of rows is nobody's view: bitsandbytes' 4-bit one of more dimensions could not be added to
        rows = x.reshape(-1, x.shape[-1])
        out, addition = self.base_layer(rows), addition_of(self)
        if addition is not None:
            out = add_product(out, rows, *addition)
        return out.view(*x.shape[:-1], out.shape[-1])


def lora_config(
    shapes: Shapes, rank: int, alpha: int, roles: Sequence[Role] = ("text", "picture"), first_layer: int = 0
) -> LoraConfig:
    """LoRA where the family has it; its part for texts begins at ``first_layer``."""
    return LoraConfig(r=rank, lora_alpha=alpha, target_modules=shapes.adapter_pattern(first_layer, roles), bias="none")


def add_adapter(network: nn.Module, config: LoraConfig, seed: int) -> dict[str, nn.Parameter]:
    """Insert a fresh adapter (it does nothing yet: B is zero) and return its trainable parameters by name.

    Raises ValueError for a configuration that asks for more than plain LoRA.
    """
    if config.lora_dropout or config.use_dora or config.lora_bias:
        raise ValueError("plain LoRA only: no dropout, no DoRA, no bias in the adapter")
    # peft draws A from the global generator; fork it so that nobody else's numbers move
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.requires_grad_(False)
        config._register_custom_module({nn.Linear: LoraLinear})
        inject_adapter_in_model(config, network)
    parameters = {name: p for name, p in network.named_parameters() if "lora_" in name}
    for parameter in parameters.values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    return parameters


def remove_adapter(network: nn.Module) -> None:
    """Take the adapter that :func:`add_adapter` made off again: every module is the one that was there before."""
    for name, layer in list(network.named_modules()):
        if hasattr(layer, "lora_A") and hasattr(layer, "base_layer"):
            network.set_submodule(name, layer.base_layer)
    # where peft remembers what it has put in: a second adapter would be one beside the first
    if hasattr(network, "peft_config"):
        del network.peft_config


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


def adapter_state(network: nn.Module) -> dict[str, Tensor]:
    """The adapter's tensors (fp32, CPU) under PEFT file names."""
    state = get_peft_model_state_dict(network)
    return {PREFIX + name: tensor.detach().float().cpu().contiguous() for name, tensor in state.items()}


def rounded_to_bf16(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The adapter's values as bf16 holds them: measured with these, a file of half the size is what was measured."""
    return {name: parameter.detach().bfloat16().to(parameter.dtype) for name, parameter in parameters.items()}


def save_adapter(
    network: nn.Module, config: LoraConfig, folder: Path, base_name: str, dtype: torch.dtype = torch.float32
) -> None:
    """Write ``adapter_model.safetensors`` and ``adapter_config.json`` as stock peft reads them."""
    state = {name: tensor.to(dtype) for name, tensor in adapter_state(network).items()}
    write_tensors(folder / WEIGHTS, state, {"format": "pt"})
    plain = {key: value for key, value in config.to_dict().items() if _is_plain(value)}
    plain["base_model_name_or_path"] = base_name
    write_atomic(folder / CONFIG, json.dumps(plain, indent=2, sort_keys=True, default=str))


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)
