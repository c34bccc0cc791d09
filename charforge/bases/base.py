"""A base, loaded: model, autoencoder, tokenizer and what identifies them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from charforge.bagel.autoencoder import Autoencoder
from charforge.bagel.checkpoint import add_low_rank, build_empty, load_autoencoder, load_tensors, unrounded
from charforge.bagel.config import BagelConfig, read_config
from charforge.bagel.model import BagelModel
from charforge.bagel.tokenizer import Tokenizer
from charforge.bases.language import ensure_language_weights
from charforge.errors import InputError
from charforge.files import sha256_file

MINI = Path(__file__).parent / "mini"
# the vision table and the drawing side of `mini`; the language weights come from the user's cache
MINI_FILES = ("generation.safetensors", "vision.safetensors")
# what answering questions about pictures adds to the language weights (charforge/mini/answers.py)
MINI_READING = MINI / "reading.safetensors"


@dataclass(frozen=True)
class Base:
    """``content_hash`` covers every weight file; ``precision`` is what the decoder's linears are held in."""

    name: str
    model: BagelModel
    autoencoder: Autoencoder
    tokenizer: Tokenizer
    content_hash: str
    precision: str

    @property
    def config(self) -> BagelConfig:
        return self.model.config


def load_base(name: str, quantize: str | None = None, device: str = "cpu") -> Base:
    """Load ``mini`` or a folder in the official layout, frozen and in evaluation mode.

    Raises InputError for an unknown base and MachineError when weights cannot be had.
    """
    dtype = compute_dtype(device)
    if name == "mini":
        language = ensure_language_weights()
        weights = [language / "language.safetensors", *(MINI / file for file in MINI_FILES)]
        additions = [MINI_READING]
        config_folder, autoencoder_file, tokenizer_file = (
            MINI,
            MINI / "autoencoder.safetensors",
            language / "tokenizer.json",
        )
    elif Path(name).is_dir():
        config_folder = Path(name)
        weights, additions = [config_folder / "ema.safetensors"], []
        autoencoder_file, tokenizer_file = config_folder / "ae.safetensors", config_folder / "tokenizer.json"
    else:
        raise InputError(
            f"there is no base named {name!r}: use mini, or the folder of a checkpoint in the official layout"
        )
    for file in (*weights, *additions, autoencoder_file, tokenizer_file):
        if not file.exists():
            raise InputError(f"{file} is missing: the base {name} is not complete; fetch or install it again")
    config = read_config(config_folder)
    model = build_empty(config)
    load_tensors(model, weights, dtype)
    for file in additions:
        add_low_rank(model, unrounded(load_file(file)))
    if quantize:
        from charforge.bagel.quantize import quantize_decoder

        quantize_decoder(model, quantize)
    return Base(
        name=name,
        model=model.eval().to(device),
        autoencoder=load_autoencoder(autoencoder_file, config).to(device),
        tokenizer=Tokenizer(tokenizer_file, config.chat_roles),
        content_hash=content_hash([*weights, *additions, autoencoder_file]),
        precision=quantize or str(dtype).removeprefix("torch."),
    )


def compute_dtype(device: str) -> torch.dtype:
    """bf16 where the machine multiplies it natively, fp32 elsewhere (never fp16: unusable on CPUs)."""
    if device == "cpu" and not torch.cpu._is_avx512_bf16_supported():
        return torch.float32
    return torch.bfloat16


def content_hash(files: list[Path]) -> str:
    """One SHA-256 over the hashes of ``files`` in order: the identity that bundles record."""
    return hashlib.sha256("".join(sha256_file(file) for file in files).encode()).hexdigest()
