"""Weights from disk into a model, tensor by tensor: cast, quantised and placed on its device as each one arrives.

Host memory never holds more than the tensor at hand beside what stays on the host. Files are read with plain reads
into fresh memory, not mapped: pages of a mapping count as the process's own, and one forgotten view keeps all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from charforge.errors import InputError
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.quantize import decoder_linears, mark_quantised
from charforge.quantization import quantised_linear
from charforge.tensor_headers import StoredTensor, read_header

# a matrix stored in int8 is accompanied by the fp32 scale of each of its rows
SCALE = ".row_scale"
# a matrix stored in fp8 is accompanied by one fp32 scale: the names of vLLM, "x.weight" and "x.weight_scale"
FP8, FP8_SCALE = "F8_E4M3", "_scale"
# what weights are stored in; anything else is a mix-up, not a precision
FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# casts and copies to a GPU go through blocks of this size: the 1 GB embedding then needs no second gigabyte
BLOCK_BYTES = 32 * 2**20

Report = Callable[[int, int], None]
Addition = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Source:
    """Where one parameter comes from: its tensor, and its scale: one a row when that is int8, one in all when fp8."""

    tensor: StoredTensor
    scale: StoredTensor | None = None


def plan(expected: Mapping[str, tuple[int, ...]], files: list[Path]) -> dict[str, Source]:
    """Match the headers of ``files`` with the names and shapes that are ``expected``: every key accounted for.

    Returns the sources in the order in which they lie on disk. Raises InputError that lists missing, unexpected,
    misshapen, doubled and wrongly typed tensors.
    """
    sources: dict[str, Source] = {}
    problems: list[str] = []
    for file in files:
        header = read_header(file)
        for name, tensor in header.items():
            if any(name.endswith(end) and name.removesuffix(end) in header for end in (SCALE, FP8_SCALE)):
                continue
            if name not in expected:
                problems.append(f"unexpected tensor {name} in {file.name}")
                continue
            source = Source(tensor, header.get(name + (FP8_SCALE if tensor.dtype == FP8 else SCALE)))
            wrong = _mismatch(source, expected[name])
            if name in sources:
                wrong = f"is in {sources[name].tensor.file.name} as well"
            if wrong:
                problems.append(f"{name} in {file.name} {wrong}")
            sources[name] = source
    problems += [f"missing tensor {name}" for name in expected if name not in sources]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise InputError(f"the base does not fit its configuration: {shown}. Fetch the base again.")
    return sources


def _mismatch(source: Source, shape: tuple[int, ...]) -> str | None:
    tensor, scale = source.tensor, source.scale
    if tensor.shape != shape:
        return f"has shape {list(tensor.shape)}, expected {list(shape)}"
    if scale is None:
        return None if tensor.dtype in FLOATS else f"has dtype {tensor.dtype}, expected one of {', '.join(FLOATS)}"
    if tensor.dtype == FP8:
        fits = scale.dtype == "F32" and scale.elements == 1
        return None if fits else f"has a scale that does not belong to it ({scale.dtype} {list(scale.shape)})"
    if tensor.dtype != "I8" or scale.dtype != "F32" or scale.shape != shape[:1]:
        return f"has a row scale that does not belong to it ({tensor.dtype}, {scale.dtype} {list(scale.shape)})"
    return None


def read_tensor(source: Source, dtype: torch.dtype, device: str | torch.device = "cpu") -> Tensor:
    """The tensor of ``source`` as ``dtype`` in fresh memory of ``device``. Raises InputError if the file ends early."""
    with source.tensor.file.open("rb", buffering=0) as opened:
        if source.scale is None:
            return _read_floats(opened, source.tensor, dtype, device)
        # only the small shipped files are int8, and fp8 is what a merge made: whole in memory is the simple way
        packed = torch.float8_e4m3fn if source.tensor.dtype == FP8 else torch.int8
        whole = _read_whole(opened, source.tensor, packed)
        scale = _read_whole(opened, source.scale, torch.float32)
        return (whole.float() * (scale if packed != torch.int8 else scale[:, None])).to(device, dtype)


def _read_floats(opened: BinaryIO, stored: StoredTensor, dtype: torch.dtype, device: str | torch.device) -> Tensor:
    out = torch.empty(stored.shape, dtype=dtype, device=device)
    flat = out.view(-1)
    opened.seek(stored.start)
    if out.device.type == "cpu" and dtype == FLOATS[stored.dtype]:
        _fill(opened, flat.view(torch.uint8), stored)
        return out
    item = FLOATS[stored.dtype].itemsize
    block = torch.empty(min(BLOCK_BYTES, stored.length), dtype=torch.uint8)
    for begin in range(0, stored.length, BLOCK_BYTES):
        size = min(BLOCK_BYTES, stored.length - begin)
        _fill(opened, block[:size], stored)
        flat[begin // item : (begin + size) // item].copy_(block[:size].view(FLOATS[stored.dtype]))
    return out


def _read_whole(opened: BinaryIO, stored: StoredTensor, dtype: torch.dtype) -> Tensor:
    raw = torch.empty(stored.length, dtype=torch.uint8)
    opened.seek(stored.start)
    _fill(opened, raw, stored)
    return raw.view(dtype).view(stored.shape)


def _fill(opened: BinaryIO, memory: Tensor, stored: StoredTensor) -> None:
    """Read until the bytes of ``memory`` are full: one read of a large range may return less."""
    view, done = memory.numpy(), 0
    while done < len(view):
        count = opened.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise InputError(f"{stored.file} ended while {stored.name} was read; fetch it again")
        done += count


def load_tensors(
    model: BagelModel,
    files: list[Path],
    dtype: torch.dtype,
    device: str | torch.device = "cpu",
    quantize: str | None = None,
    int8_threshold: float = 0.0,
    additions: Mapping[str, Addition] | None = None,
    report: Report | None = None,
) -> None:
    """Stream ``files`` into ``model`` (on the meta device before) as ``dtype`` on ``device``.

    With ``quantize`` the decoder linears of both experts become int8 or nf4 as they arrive. ``additions`` (low-rank,
    by linear) are added before that. ``report(bytes done, bytes in all)`` is called after each tensor.
    Raises InputError when the files do not hold exactly what the model needs; nothing is read then.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    sources = plan(shapes, files)
    additions = additions or {}
    check_additions(shapes, additions)
    # refuses an unknown kind, and a base that nf4 cannot hold, before a byte is read
    quantised = decoder_linears(model, quantize) if quantize else {}
    total, done = sum(source.tensor.length for source in sources.values()), 0
    biases: dict[str, Tensor] = {}
    for name, source in sources.items():
        linear, _, leaf = name.rpartition(".")
        if linear in quantised and leaf == "bias":
            biases[linear] = read_tensor(source, dtype, device)
        elif leaf == "weight" and (linear in quantised or linear in additions):
            # additions and the step to int8 or nf4 begin on the host, one matrix at a time
            weight = read_tensor(source, dtype)
            if linear in additions:
                weight = added(weight, *additions[linear])
            if linear in quantised:
                assert quantize is not None
                new = quantised_linear(quantised[linear], weight, quantize, device, int8_threshold)
                model.set_submodule(linear, new)
            else:
                set_tensor(model, name, weight.to(device))
        else:
            set_tensor(model, name, read_tensor(source, dtype, device))
        done += source.tensor.length
        if report:
            report(done, total)
    for linear, bias in biases.items():
        set_tensor(model, f"{linear}.bias", bias)
    if quantize:
        mark_quantised(model, quantize)


def check_additions(shapes: Mapping[str, tuple[int, ...]], additions: Mapping[str, Addition]) -> None:
    """Raise InputError when an addition names a linear that is not there or that has another shape."""
    for linear, (a, b) in additions.items():
        shape = shapes.get(f"{linear}.weight")
        if shape is None:
            raise InputError(f"an addition changes {linear}, which this base has not; fetch the base again")
        if (b.shape[0], a.shape[1]) != shape or a.shape[0] != b.shape[1]:
            raise InputError(f"an addition does not fit {linear} of this base; fetch the base again")


@torch.no_grad()
def added(weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``weight + b @ a``, computed in fp32, in the precision of ``weight``."""
    total = b.float() @ a.float()
    # in place: fresh memory for every sum would take longer than the sums
    total += weight
    return total.to(weight.dtype)


def set_tensor(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Replace the parameter ``name`` (on the meta device, say) by ``tensor``; it stays frozen."""
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    setattr(owner, leaf, nn.Parameter(tensor, requires_grad=False))
