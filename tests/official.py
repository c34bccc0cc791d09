"""What tests need and the product does not: a loaded model quantised in place, and a model written as a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from charforge.errors import InputError
from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.config import BagelConfig
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


def official_files(config: BagelConfig) -> dict[str, dict]:
    """The JSON files that :func:`charforge.families.bagel.config.read_config` reads back to the same configuration."""
    auto, vision = config.autoencoder, config.vision
    return {
        "llm_config.json": {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "hidden_size": config.understanding.hidden_size,
            "intermediate_size": config.understanding.intermediate_size,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.context_tokens,
            "rope_theta": config.rope_theta,
            "rms_norm_eps": config.rms_norm_eps,
        },
        "vit_config.json": {
            "model_type": "siglip_vision_model",
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_attention_heads": vision.heads,
            "num_hidden_layers": vision.layers + 1,
            "patch_size": vision.patch_size,
            "image_size": vision.max_size,
        },
        "config.json": {
            "model_type": "bagel",
            "architectures": ["BagelForConditionalGeneration"],
            "latent_patch_size": config.latent_patch_size,
            "max_latent_size": config.max_latent_size,
            "vit_max_num_patch_per_side": vision.patches_per_side,
            "interpolate_pos": config.interpolate_positions,
            "vae_config": {
                "ch": auto.channels[0],
                "ch_mult": [channels // auto.channels[0] for channels in auto.channels],
                "num_res_blocks": auto.layers_per_block,
                "z_channels": auto.latent_channels,
                "scale_factor": auto.scale_factor,
                "shift_factor": auto.shift_factor,
            },
        },
        "special_tokens.json": config.special_tokens.model_dump(),
    }
