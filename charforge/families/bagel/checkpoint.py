"""The official on-disk layout, in and out: every tensor accounted for (bagel.md sections 1, 2, 8)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from charforge.errors import InputError
from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.config import BagelConfig, read_config
from charforge.families.bagel.folder import weight_files
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.stream import SCALE, Addition, added, check_additions, load_tensors, plan, read_tensor
from charforge.families.bagel.stream import set_tensor as set_tensor


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


def low_rank_additions(state: dict[str, Tensor]) -> dict[str, Addition]:
    """(A, B) by linear of a file that names them ``NAME.lora_A`` (r, in) and ``NAME.lora_B`` (out, r).

    Raises InputError when one of a pair is missing.
    """
    names = sorted({key.removesuffix(".lora_A").removesuffix(".lora_B") for key in state})
    for name in names:
        if f"{name}.lora_A" not in state or f"{name}.lora_B" not in state:
            raise InputError(f"an addition to {name} of this base is not complete; fetch the base again")
    return {name: (state[f"{name}.lora_A"], state[f"{name}.lora_B"]) for name in names}


@torch.no_grad()
def add_low_rank(model: BagelModel, state: dict[str, Tensor]) -> None:
    """Add ``B @ A`` to the linears that ``state`` names, in a loaded model.

    Raises InputError when a linear is not there or has another shape.
    """
    additions = low_rank_additions(state)
    check_additions({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}, additions)
    for name, (a, b) in additions.items():
        weight = model.get_parameter(f"{name}.weight")
        weight.copy_(added(weight, a.to(weight.device), b.to(weight.device)))


def unrounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``rounded_rows``, to fp32."""
    return {
        name: tensor.float() * (state[name + SCALE].float()[:, None] if name + SCALE in state else 1.0)
        for name, tensor in state.items()
        if not name.endswith(SCALE)
    }


def load_official(
    folder: Path,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    quantize: str | None = None,
    int8_threshold: float = 0.0,
) -> tuple[BagelModel, Autoencoder]:
    """Load a base folder in the official layout: config files, model weights and ``ae.safetensors``."""
    config = read_config(folder)
    weights = weight_files(folder)
    model = build_empty(config)
    load_tensors(model, weights, dtype, device, quantize, int8_threshold)
    return model.eval(), load_autoencoder(folder / "ae.safetensors", config, device)


def model_shapes(config: BagelConfig) -> dict[str, tuple[int, ...]]:
    """Every key that the weight files of a base have to hold, with its shape."""
    return {name: tuple(tensor.shape) for name, tensor in build_empty(config).state_dict().items()}


def autoencoder_shapes(config: BagelConfig) -> dict[str, tuple[int, ...]]:
    """Every key that ``ae.safetensors`` has to hold, with its shape."""
    with torch.device("meta"):
        state = Autoencoder(config.autoencoder).official_state()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def load_autoencoder(file: Path, config: BagelConfig, device: str | torch.device = "cpu") -> Autoencoder:
    """The autoencoder in fp32, frozen. Raises InputError when the file does not hold exactly what it needs."""
    sources = plan(autoencoder_shapes(config), [file])
    with torch.device("meta"):
        autoencoder = Autoencoder(config.autoencoder)
    tensors = {name: read_tensor(source, torch.float32, device) for name, source in sources.items()}
    autoencoder.load_official(tensors, assign=True)
    return autoencoder.to(device).eval().requires_grad_(False)
