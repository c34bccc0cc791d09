"""The official on-disk layout, in and out: every tensor accounted for (bagel.md sections 1, 2, 8)."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from charforge.bagel.autoencoder import Autoencoder
from charforge.bagel.config import BagelConfig, read_config
from charforge.bagel.model import BagelModel
from charforge.errors import InputError
from charforge.files import write_atomic, write_atomic_with

# a matrix stored in int8 is accompanied by the fp32 scale of each of its rows
SCALE = ".row_scale"


def rounded_rows(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8 with one scale a row, everything else as fp16: half the size of fp16.

    On the generation expert of ``mini`` this changes drawn pictures by less than bf16 arithmetic does
    (mini-feasibility.md: PSNR 59 dB against the unrounded weights).
    """
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.ndim == 2 and min(tensor.shape) > 1:
            scale = (tensor.float().abs().amax(1) / 127).clamp(min=1e-12)
            out[name] = (tensor.float() / scale[:, None]).round().to(torch.int8)
            out[name + SCALE] = scale
        else:
            out[name] = tensor.half()
    return out


def build_empty(config: BagelConfig) -> BagelModel:
    """The model on the meta device: shapes without memory."""
    with torch.device("meta"):
        return BagelModel(config)


def load_tensors(model: BagelModel, files: list[Path], dtype: torch.dtype) -> None:
    """Stream ``files`` tensor by tensor into ``model`` (on the meta device before), cast to ``dtype``.

    Raises InputError that lists missing, unexpected and misshapen tensors.
    """
    expected = dict(model.state_dict())
    problems: list[str] = []
    seen: set[str] = set()
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            names = set(tensors.keys())
            for name in sorted(names):
                if name.endswith(SCALE) and name.removesuffix(SCALE) in names:
                    continue
                if name not in expected:
                    problems.append(f"unexpected tensor {name} in {file.name}")
                    continue
                tensor = tensors.get_tensor(name)
                if tensor.shape != expected[name].shape:
                    wanted = list(expected[name].shape)
                    problems.append(f"{name} in {file.name} has shape {list(tensor.shape)}, expected {wanted}")
                    continue
                seen.add(name)
                if name + SCALE in names:
                    tensor = tensor.float() * tensors.get_tensor(name + SCALE)[:, None]
                set_tensor(model, name, tensor.to(dtype))
    problems += [f"missing tensor {name}" for name in expected if name not in seen]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise InputError(f"the base does not fit its configuration: {shown}. Fetch the base again.")


@torch.no_grad()
def add_low_rank(model: BagelModel, state: dict[str, Tensor]) -> None:
    """Add ``B @ A`` to the linears that ``state`` names: ``NAME.lora_A`` (r, in) and ``NAME.lora_B`` (out, r).

    Raises InputError when a linear is not there or has another shape.
    """
    for name in sorted(key.removesuffix(".lora_A") for key in state if key.endswith(".lora_A")):
        a, b = state[f"{name}.lora_A"], state.get(f"{name}.lora_B")
        try:
            weight = model.get_parameter(f"{name}.weight")
        except AttributeError:
            raise InputError(f"an addition changes {name}, which this base has not; fetch the base again") from None
        if b is None or (b.shape[0], a.shape[1]) != tuple(weight.shape):
            raise InputError(f"an addition does not fit {name} of this base; fetch the base again")
        weight.copy_(weight.float() + b.float() @ a.float())


def unrounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``rounded_rows``, to fp32."""
    return {
        name: tensor.float() * (state[name + SCALE].float()[:, None] if name + SCALE in state else 1.0)
        for name, tensor in state.items()
        if not name.endswith(SCALE)
    }


def set_tensor(model: torch.nn.Module, name: str, tensor: Tensor) -> None:
    """Replace the parameter ``name`` (on the meta device, say) by ``tensor``; it stays frozen."""
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    setattr(owner, leaf, torch.nn.Parameter(tensor, requires_grad=False))


def load_official(folder: Path, dtype: torch.dtype = torch.bfloat16) -> tuple[BagelModel, Autoencoder]:
    """Load a base folder in the official layout: config files, ``ema.safetensors`` and ``ae.safetensors``."""
    config = read_config(folder)
    weights = folder / "ema.safetensors"
    for needed in (weights, folder / "ae.safetensors"):
        if not needed.exists():
            raise InputError(f"{needed} is missing: fetch the base again")
    model = build_empty(config)
    load_tensors(model, [weights], dtype)
    return model.eval(), load_autoencoder(folder / "ae.safetensors", config)


def load_autoencoder(file: Path, config: BagelConfig) -> Autoencoder:
    """The autoencoder in fp32, frozen."""
    autoencoder = Autoencoder(config.autoencoder)
    with safe_open(file, framework="pt") as tensors:
        state = {name: tensors.get_tensor(name).float() for name in tensors.keys()}  # noqa: SIM118
    try:
        autoencoder.load_official(state)
    except RuntimeError as error:
        raise InputError(f"{file} does not fit the configuration: {error}") from error
    return autoencoder.eval().requires_grad_(False)


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
    """The JSON files that :func:`charforge.bagel.config.read_config` reads back to the same configuration."""
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
