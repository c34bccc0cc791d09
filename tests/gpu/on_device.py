"""Helpers: the tiny base and the golden one on a device."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from official import quantize_decoder
from test_golden import GOLDEN, META
from tiny import CONFIG, tiny_model

from charforge.adapter.lora import add_adapter, lora_config
from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.checkpoint import load_official
from charforge.families.bagel.config import SpecialTokens
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.unified import UnifiedBagel

LORA = lora_config(CONFIG, rank=4, alpha=8)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16, "nf4": torch.bfloat16}


def tiny_on(device: str, precision: str = "fp32") -> UnifiedBagel:
    """The tiny base; in int8 and nf4 what is not quantised is bf16, as on a card."""
    model = tiny_model(dtype=DTYPES[precision])
    model.network.to(device)
    model.autoencoder.to(device)
    if precision in ("int8", "nf4"):
        quantize_decoder(model.network, precision)
    return model


def lively(model: UnifiedBagel) -> dict[str, torch.nn.Parameter]:
    """A fresh adapter that already does something: B is not zero. The same values on every device."""
    parameters = add_adapter(model.network, LORA, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.copy_((torch.randn(parameter.shape, generator=generator) * 0.05).to(parameter.device))
    return parameters


def golden_on(device: str, dtype: torch.dtype = torch.float32) -> tuple[BagelModel, Autoencoder]:
    """The golden checkpoint with its markers, streamed to ``device``."""
    model, autoencoder = load_official(GOLDEN / "ckpt", dtype, device)
    tokens = META["special_token_ids"]
    ids = SpecialTokens(
        bos=tokens["bos_token_id"],
        eos=tokens["eos_token_id"],
        image_start=tokens["start_of_image"],
        image_end=tokens["end_of_image"],
    )
    model.config = model.config.model_copy(update={"special_tokens": ids})
    return model, autoencoder


def in_its_precision(model: BagelModel) -> AbstractContextManager[object]:
    """Autocast as in training."""
    return torch.autocast(model.device.type, torch.bfloat16, enabled=model.dtype == torch.bfloat16)


def off(ours: torch.Tensor, expected: torch.Tensor) -> float:
    """Distance relative to the norm of what is expected, both on the CPU in fp32."""
    a, b = ours.detach().float().cpu(), expected.detach().float().cpu()
    return float((a - b).norm() / b.norm())


def flat_gradient(parameters: dict[str, torch.nn.Parameter]) -> torch.Tensor:
    """All gradients behind each other, on the CPU; zeros where a parameter has none."""
    some = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters.values()]
    return torch.cat([gradient.detach().float().cpu().flatten() for gradient in some])
