"""What tests need and the product does not: a loaded model quantised in place, and a model written as a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from charforge.errors import InputError
from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.checkpoint import official_files
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.quantize import decoder_linears, mark_quantised
from charforge.files import write_atomic, write_atomic_with
from charforge.quantization import quantised_linear


def quantize_decoder(model: BagelModel, kind: str, int8_threshold: float = 0.0) -> None:
    """Quantise a loaded ``model`` in place, on the device where it is. Raises InputError as decoder_linears does."""
    for name, linear in decoder_linears(model, kind).items():
        device = linear.weight.device
        new = quantised_linear(linear, linear.weight.data.cpu(), kind, device, int8_threshold)
        if linear.bias is not None:
            new.bias = nn.Parameter(linear.bias.data, requires_grad=False)
        model.set_submodule(name, new)
    mark_quantised(model, kind)


def save_official(folder: Path, model: BagelModel, autoencoder: Autoencoder, dtype: torch.dtype) -> None:
    """Write the official layout. Only models with equal widths fit it: raises InputError otherwise."""
    config = model.config
    if config.understanding != config.generation or config.generation_layers is not None:
        raise InputError("the official layout needs two experts of the same shape in every layer")
    state = {name: tensor.detach().to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    write_atomic_with(folder / "ema.safetensors", lambda path: save_file(state, path, {"format": "pt"}))
    ae_state = autoencoder.official_state()
    write_atomic_with(folder / "ae.safetensors", lambda path: save_file(ae_state, path, {"format": "pt"}))
    for name, content in official_files(config).items():
        write_atomic(folder / name, json.dumps(content, indent=2))
