"""A base of arbitrary weights as files: to measure how bases are loaded, without a download."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.checkpoint import build_empty
from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.layers import sincos_table
from charforge.files import write_atomic
from charforge.tensor_files import write_tensors

SHARD_BYTES = 2**31
POOL = 16_777_259
"""Normal numbers that are drawn once and used again and again: a prime, so that no two rows of a matrix are alike.
Drawing all 15 billion of a 7B base would take longer than everything that is measured."""


def write_random_base(config: BagelConfig, folder: Path, report: Callable[[int, int], None], seed: int = 0) -> None:
    """Write ``config`` to ``folder`` in shards of ``SHARD_BYTES``, bf16. ``report(bytes done, in all)`` counts.

    The host holds one shard at a time. What was written is not left in the system's cache, where it can be told so:
    loading then reads the disk.
    """
    shapes = {name: tensor.shape for name, tensor in build_empty(config).state_dict().items()}
    total, done = 2 * sum(shape.numel() for shape in shapes.values()), 0
    pool = torch.empty(POOL, dtype=torch.bfloat16).normal_(generator=torch.Generator().manual_seed(seed))
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, str] = {}
    for number, shard in enumerate(_shards(shapes, pool)):
        name = f"model-{number:05d}.safetensors"
        write_tensors(folder / name, shard, {"format": "pt"})
        _forget(folder / name)
        places |= dict.fromkeys(shard, name)
        done += sum(tensor.nbytes for tensor in shard.values())
        report(done, total)
    write_atomic(folder / "model.safetensors.index.json", json.dumps({"weight_map": places}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        write_tensors(folder / "ae.safetensors", Autoencoder(config.autoencoder).official_state(), {"format": "pt"})
    write_atomic(folder / "charforge_base.json", config.model_dump_json(indent=2))
    write_atomic(folder / "tokenizer.json", json.dumps(_one_word(config)))


def _shards(shapes: dict[str, torch.Size], pool: Tensor) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    held = 0
    for name, shape in shapes.items():
        if shard and held + 2 * shape.numel() > SHARD_BYTES:
            yield shard
            shard, held = {}, 0
        shard[name] = _value(name, shape, pool)
        held += 2 * shape.numel()
    yield shard


def _value(name: str, shape: torch.Size, pool: Tensor) -> Tensor:
    """bf16 of the scale of trained weights, as ``random_base.random_value`` makes it."""
    if name.endswith("pos_embed"):
        return sincos_table(round(shape[0] ** 0.5), shape[1]).bfloat16()
    size = shape.numel()
    value = pool.repeat(-(-size // len(pool)))[:size].view(shape).clone()
    if len(shape) > 1:
        return value.mul_(shape[-1] ** -0.5)
    return value.mul_(0.1).add_(1) if "norm" in name else value.mul_(0.1)


def _forget(file: Path) -> None:
    """Ask the system not to keep the file in memory (Linux)."""
    if hasattr(os, "posix_fadvise"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _one_word(config: BagelConfig) -> dict[str, object]:
    """A tokenizer that knows one word, which stands for all."""
    special = config.special_tokens
    taken = {special.bos, special.eos, special.image_start, special.image_end}
    word = next(index for index in count() if index not in taken)
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"word": word}, "unk_token": "word"},
    }  # fmt: skip
