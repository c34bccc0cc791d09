"""A base, loaded: its model, and what identifies it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from charforge.bases.hashes import content_hash
from charforge.bases.language import ensure_language_weights
from charforge.bases.where import MINI as MINI
from charforge.bases.where import find_base
from charforge.device import multiplies_bf16
from charforge.errors import MachineError
from charforge.families import family_of
from charforge.families.protocol import UnifiedModel
from charforge.progress import byte_progress
from charforge.quantization import is_int8_right
from charforge.settings import PictureSettings


@dataclass(frozen=True)
class Base:
    """``content_hash`` covers every weight file; ``precision`` is what the decoder's linears are held in."""

    name: str
    model: UnifiedModel
    content_hash: str
    precision: str


def load_base(
    name: str,
    quantize: str | None = None,
    device: str = "cpu",
    int8_threshold: float = 0.0,
    dtype: torch.dtype | None = None,
) -> Base:
    """Load ``mini``, ``bagel``, a registered base or a folder in the official layout, frozen, in evaluation mode.

    Weights stream from disk to ``device`` one tensor at a time, in ``dtype`` (by default what suits the device),
    quantised on the way when ``quantize`` is int8 or nf4 (``int8_threshold``: see families/bagel/quantize.py). The
    peak of host memory is what stays there, plus the largest decoder matrix twice. Raises InputError for an unknown or
    malformed base, MachineError when weights cannot be had.
    """
    dtype = dtype or compute_dtype(device)
    if name == "mini":
        ensure_language_weights()
    files = find_base(name)
    if quantize == "int8" and not is_int8_right(device):
        raise MachineError(
            "--quantize int8 computes wrongly on this processor, which has no 8-bit dot products (VNNI): leave "
            "--quantize out, or use nf4"
        )
    with byte_progress(f"loading {name}") as report:
        model = family_of(files.config_folder).load(files, dtype, device, quantize, int8_threshold, report)
    with byte_progress(f"checking {name}") as report:
        identity = content_hash(list(files.identity), report)
    return Base(name, model, identity, precision=quantize or str(dtype).removeprefix("torch."))


def use_picture_sizes(base: Base, pictures: PictureSettings) -> Base:
    """The base with the settings' sizes instead of its own. Raises InputError for sizes that it cannot draw."""
    base.model.use_picture_sizes(pictures.longest_side, pictures.shortest_side, pictures.draw_side, pictures.draw_steps)
    return base


def compute_dtype(device: str) -> torch.dtype:
    """bf16 where the device multiplies it natively, fp32 elsewhere (never fp16: unusable on CPUs)."""
    return torch.bfloat16 if multiplies_bf16(device) else torch.float32
