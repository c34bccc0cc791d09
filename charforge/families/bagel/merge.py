"""A base with an adapter added to its weights, written in the official layout while it is read: tensor by tensor.

Host memory holds one matrix at a time (as stored, and its sum in fp32); what no adapter touches passes in blocks.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from charforge.errors import InputError
from charforge.families.bagel.checkpoint import autoencoder_shapes, model_shapes
from charforge.families.bagel.config import BagelConfig, read_config
from charforge.families.bagel.stream import (
    BLOCK_BYTES,
    FLOATS,
    FP8,
    FP8_SCALE,
    Source,
    check_additions,
    plan,
    read_tensor,
)
from charforge.families.protocol import BaseFiles, MergedPrecision
from charforge.files import write_atomic, write_atomic_with
from charforge.low_rank import Addition
from charforge.tensor_headers import ITEM_BYTES

LARGEST_FP8 = 448.0
COPIED_SUFFIXES = (".json", ".txt", ".jinja")
NOT_COPIED = ("charforge_source.json", "model.safetensors.index.json")
LARGEST_COPY = 64 << 20
WEIGHTS, AUTOENCODER = "ema.safetensors", "ae.safetensors"


@dataclass(frozen=True)
class Place:
    """Where a tensor of the new file lies: its type, shape, and its first and last byte after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def write_merged(
    files: BaseFiles, additions: Mapping[str, Addition], folder: Path, precision: MergedPrecision,
    report: Callable[[int, int], None],
) -> None:  # fmt: skip
    """See :meth:`charforge.families.protocol.Family.merge`."""
    config = read_config(files.config_folder)
    if config.understanding != config.generation or config.generation_layers is not None or files.additions:
        raise InputError(
            f"the base {files.name} has no published layout that its weights could be written in: only adapters of "
            "bases in the official layout of BAGEL can be merged; share this one with --peft or as a .charx"
        )
    shapes = model_shapes(config)
    sources = plan(shapes, list(files.weights))
    check_additions(shapes, {name: (a, b) for name, (a, b, _) in additions.items()})
    assert files.autoencoder is not None
    plan(autoencoder_shapes(config), [files.autoencoder])
    rounded = {f"{linear}.weight" for linear in config.adapter_linears(0)} if precision == "fp8" else set()
    write_atomic_with(folder / WEIGHTS, lambda path: _write_weights(path, sources, additions, rounded, report))
    autoencoder = files.autoencoder
    write_atomic_with(folder / AUTOENCODER, lambda path: shutil.copyfile(autoencoder, path))
    _copy_small_files(files, folder, _quantization(config, sources) if rounded else None)


def _layout(sources: Mapping[str, Source], rounded: set[str]) -> dict[str, Place]:
    """Scales, then bf16, then fp8: everything begins at a multiple of its size, as the format's own writer does it."""
    wanted: list[tuple[str, str, tuple[int, ...]]] = []
    wanted += [(f"{name}{FP8_SCALE}", "F32", (1,)) for name in sources if name in rounded]
    wanted += [(name, "BF16", source.tensor.shape) for name, source in sources.items() if name not in rounded]
    wanted += [(name, FP8, source.tensor.shape) for name, source in sources.items() if name in rounded]
    places, at = {}, 0
    for name, dtype, shape in wanted:
        size = ITEM_BYTES[dtype] * math.prod(shape)
        places[name] = Place(dtype, shape, at, at + size)
        at += size
    return places


def _write_weights(
    path: Path, sources: Mapping[str, Source], additions: Mapping[str, Addition], rounded: set[str],
    report: Callable[[int, int], None],
) -> None:  # fmt: skip
    places = _layout(sources, rounded)
    header: dict[str, Any] = {
        name: {"dtype": place.dtype, "shape": list(place.shape), "data_offsets": [place.start, place.end]}
        for name, place in places.items()
    }
    encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    encoded += b" " * (-len(encoded) % 8)
    begin = 8 + len(encoded)
    total, done = max(place.end for place in places.values()), 0
    with path.open("wb") as out:
        out.write(len(encoded).to_bytes(8, "little") + encoded)
        for name, source in sources.items():
            out.seek(begin + places[name].start)
            addition = additions.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
            if name in rounded:
                scale = _write_fp8(out, _summed(source, addition))
                out.seek(begin + places[name + FP8_SCALE].start)
                _write(out, scale)
            elif addition is not None:
                _write(out, _summed(source, addition).bfloat16())
            else:
                for block in _blocks(source):
                    _write(out, block)
            done += places[name].end - places[name].start
            report(done, total)


@torch.no_grad()
def _summed(source: Source, addition: Addition | None) -> Tensor:
    """The weight in fp32 with what is added to it: rounded once, when it is written."""
    stored = FLOATS[source.tensor.dtype] if source.scale is None else torch.float32
    weight = read_tensor(source, stored)
    if addition is None:
        return weight.float()
    a, b, strength = addition
    total = (b.float() * strength) @ a.float()
    total += weight
    return total


def _write_fp8(out: BinaryIO, weight: Tensor) -> Tensor:
    """Write ``weight`` (fp32, changed in place) as e4m3 and return its scale."""
    scale = (weight.abs().amax() / LARGEST_FP8).clamp(min=1e-12).reshape(1)
    weight /= scale
    _write(out, weight.clamp_(-LARGEST_FP8, LARGEST_FP8).to(torch.float8_e4m3fn))
    return scale


def _blocks(source: Source) -> Iterator[Tensor]:
    """The values of a tensor as bf16, a block at a time."""
    if source.scale is not None:
        yield read_tensor(source, torch.bfloat16)
        return
    stored, dtype = source.tensor, FLOATS[source.tensor.dtype]
    with stored.file.open("rb") as opened:
        opened.seek(stored.start)
        for begin in range(0, stored.length, BLOCK_BYTES):
            size = min(BLOCK_BYTES, stored.length - begin)
            raw = bytearray(size)
            if opened.readinto(raw) != size:
                raise InputError(f"{stored.file} ended while {stored.name} was read; fetch it again")
            yield torch.frombuffer(raw, dtype=dtype).bfloat16()


def _write(out: BinaryIO, tensor: Tensor) -> None:
    out.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)


def _quantization(config: BagelConfig, sources: Mapping[str, Source]) -> dict[str, Any]:
    """What readers of fp8 checkpoints look for: how the linears are held, and which are not."""
    linears = set(config.adapter_linears(0))
    others = [
        name.removesuffix(".weight")
        for name, source in sources.items()
        if name.endswith(".weight") and len(source.tensor.shape) == 2 and name.removesuffix(".weight") not in linears
    ]
    # vLLM-Omni (0.30) holds the whole model below "bagel." and compares whole names; without the flag it takes the
    # weights for bf16 that it is to round itself
    return {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "is_checkpoint_fp8_serialized": True,
        "ignored_layers": [*others, *(f"bagel.{name}" for name in others)],
    }


def _copy_small_files(files: BaseFiles, folder: Path, quantization: dict[str, Any] | None) -> None:
    """Configuration and tokenizer, as they are; with ``quantization`` told in the two files where readers look."""
    own = [path for path in sorted(files.config_folder.iterdir()) if path.is_file()]
    for path in {*own, files.tokenizer}:
        if path.suffix not in COPIED_SUFFIXES or path.name in NOT_COPIED or path.stat().st_size > LARGEST_COPY:
            continue
        content = path.read_bytes()
        if quantization is not None and path.name in ("config.json", "llm_config.json"):
            content = _with_quantization(content, quantization)
        write_atomic(folder / path.name, content)


def _with_quantization(content: bytes, quantization: dict[str, Any]) -> bytes:
    try:
        told = json.loads(content)
    except ValueError:
        # early copies of config.json are no JSON, and no program reads them
        return content
    return (
        json.dumps({**told, "quantization_config": quantization}, indent=2).encode()
        if isinstance(told, dict)
        else content
    )
