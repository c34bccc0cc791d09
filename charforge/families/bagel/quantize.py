"""Which linears are held in 8 or 4 bits; everything small or sensitive stays as it is (method.md 1).

Quantised are the seven linears of both experts in every decoder layer, and no others: not the heads, the embedders,
the norms, the connector, the vision tower or the autoencoder.
"""

from __future__ import annotations

from torch import nn

from charforge.errors import InputError
from charforge.families.bagel.model import BagelModel
from charforge.quantization import KINDS, NF4_BLOCK


def decoder_linears(model: BagelModel, kind: str) -> dict[str, nn.Linear]:
    """The linears that ``kind`` quantises, by their name in ``model`` (which may be on the meta device).

    Raises InputError for an unknown kind, and for nf4 on a base whose widths it cannot hold.
    """
    if kind not in KINDS:
        raise InputError(f"--quantize {kind}: choose one of {', '.join(KINDS)}")
    linears = {
        f"language_model.model.layers.{name}": module
        for name, module in model.language_model.model.layers.named_modules()
        if isinstance(module, nn.Linear)
    }
    for linear in linears.values():
        if kind == "nf4" and linear.in_features % NF4_BLOCK:
            # bitsandbytes 0.50 on a CPU reads such rows back wrongly (27 % error where 9 % is right), and says nothing
            raise InputError(
                f"nf4 needs layers {NF4_BLOCK} wide or a multiple of it, this base has {linear.in_features}: use int8"
            )
    return linears


def mark_quantised(model: BagelModel, kind: str) -> None:
    """Without these marks peft wraps the layers as if they were full precision, and merging is wrong."""
    if kind == "int8":
        model.is_loaded_in_8bit = True  # type: ignore[assignment]
    else:
        model.is_loaded_in_4bit = True  # type: ignore[assignment]
