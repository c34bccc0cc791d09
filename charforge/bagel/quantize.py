"""8-bit and 4-bit decoder linears through bitsandbytes; everything small or sensitive stays as it is (method.md 1)."""

from __future__ import annotations

import torch
from torch import nn

from charforge.bagel.model import BagelModel
from charforge.errors import InputError

KINDS = ("int8", "nf4")
NF4_BLOCK = 64


def quantize_decoder(model: BagelModel, kind: str) -> None:
    """Replace the linears of both experts in place. Heads, embedders, norms, vision tower and autoencoder stay.

    int8 is LLM.int8 with threshold 0: with outlier columns the result of a row would depend on its neighbours in the
    batch, and sampling and training would disagree (method.md section 4). Raises InputError for an unknown kind.
    """
    if kind not in KINDS:
        raise InputError(f"--quantize {kind}: choose one of {', '.join(KINDS)}")
    for layer in model.language_model.model.layers:
        for name, module in list(layer.named_modules()):
            if isinstance(module, nn.Linear):
                path, _, leaf = name.rpartition(".")
                setattr(layer.get_submodule(path), leaf, _quantized(module, kind))
    # without these marks peft would wrap the layers as if they were full precision and merging would be wrong
    if kind == "int8":
        model.is_loaded_in_8bit = True  # type: ignore[assignment]
    else:
        model.is_loaded_in_4bit = True  # type: ignore[assignment]


def _quantized(linear: nn.Linear, kind: str) -> nn.Module:
    import bitsandbytes as bnb

    if kind == "nf4" and linear.in_features % NF4_BLOCK:
        # bitsandbytes 0.50 on a CPU reads such rows back wrongly (27 % error where 9 % is right), and says nothing
        raise InputError(
            f"nf4 needs layers {NF4_BLOCK} wide or a multiple of it, this base has {linear.in_features}: use int8"
        )
    bias = linear.bias is not None
    if kind == "int8":
        new: nn.Module = bnb.nn.Linear8bitLt(
            linear.in_features, linear.out_features, bias, has_fp16_weights=False, threshold=0.0
        )
    else:
        new = bnb.nn.Linear4bit(
            linear.in_features, linear.out_features, bias, quant_type="nf4", compute_dtype=torch.bfloat16
        )
    device = linear.weight.device
    state = {"weight": linear.weight.data.cpu()} | ({"bias": linear.bias.data.cpu()} if bias else {})
    new.load_state_dict(state)
    # moving to a device is what quantises the stored weight
    return new.to(device).requires_grad_(False)
