"""The adapter of a bundle, checked by hand: nobody's file is handed to a library before it is known to be whole."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from charforge.adapter.names import PREFIX, tensor_shapes
from charforge.bases.where import base_shapes, registered
from charforge.errors import InputError, MachineError
from charforge.families.protocol import Shapes

MAX_HEADER = 8 << 20
# the name of a module inside a list of layers, as every family has it
TENSOR_NAME = re.compile(
    re.escape(PREFIX)
    + r"(?:[A-Za-z_]{1,32}\.){1,8}(?P<layer>\d{1,3})\.(?P<linear>(?:[A-Za-z_]{1,32}\.){0,3}[a-z_]{1,32})"
    r"\.lora_(?P<side>[AB])\.weight"
)
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}

Shape = tuple[int, int]


class Refusal(Exception):
    """Why a bundle is not used."""


def check_adapter(data: bytes, rank: int) -> dict[str, Shape]:
    """Shape by name of the tensors of a safetensors file: header, names, types, extent and values are checked.

    Raises Refusal for whatever is no LoRA of ``rank``, for values that are no numbers, and for an adapter that
    changes nothing because it is zero.
    """
    header, body = _split(data)
    shapes: dict[str, Shape] = {}
    position, acts = 0, False
    for name, entry in sorted(header.items(), key=lambda item: _offsets(item[1])):
        named = TENSOR_NAME.fullmatch(name)
        if named is None:
            raise Refusal(f"its adapter holds the tensor {name[:80]!r}, which does not belong there")
        begin, end = _offsets(entry)
        shape, dtype = entry.get("shape"), entry.get("dtype")
        if dtype not in WIDTHS:
            raise Refusal(f"the tensor {name} is of type {str(dtype)[:16]}, expected floating point")
        sides = isinstance(shape, list) and len(shape) == 2 and all(type(s) is int and 0 < s <= 1 << 17 for s in shape)
        if not sides or shape[0 if named["side"] == "A" else 1] != rank:
            raise Refusal(f"the tensor {name} has the shape {str(shape)[:40]}, which is no LoRA of rank {rank}")
        if begin != position or end - begin != shape[0] * shape[1] * WIDTHS[dtype] or end > len(body):
            raise Refusal(f"the tensor {name} lies outside its file")
        if not _finite(body[begin:end], dtype):
            raise Refusal(f"the tensor {name} holds values that are no numbers")
        # what is added is B times A: where every B is zero, so is the change
        acts = acts or (named["side"] == "B" and _is_any(body[begin:end], dtype))
        shapes[name] = (shape[0], shape[1])
        position = end
    if position != len(body):
        raise Refusal("its adapter is longer than its tensors")
    if not acts:
        raise Refusal("its adapter is all zeros: it changes nothing")
    return shapes


def check_tensor_set(shapes: Mapping[str, Shape], base_name: str, rank: int, first_layer: int = 0) -> None:
    """Raise Refusal unless the tensors are all those that an adapter for the base has, in the right shapes.

    What serves texts has none below ``first_layer``. For a base that is not known here they are held
    against each other: both halves of every pair, no layer left out.
    """
    known = known_shapes(base_name)
    if known is None:
        _check_among_themselves(shapes, first_layer)
        return
    expected = tensor_shapes(known.adapter_linears(first_layer), rank)
    missing, more = sorted(set(expected) - set(shapes)), sorted(set(shapes) - set(expected))
    if missing:
        raise Refusal(f"its adapter lacks {len(missing)} of {len(expected)} tensors, first {missing[0]}")
    if more:
        raise Refusal(f"its adapter holds {len(more)} tensors that {base_name} has no place for, first {more[0]}")
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise Refusal(
                f"the tensor {name} has the shape {list(shape)}, and {base_name} needs {list(expected[name])}"
            )


def known_shapes(base_name: str) -> Shapes | None:
    """The shapes of a base that this machine knows by name; None for any other. A path is never followed."""
    try:
        return base_shapes(base_name) if base_name in ("mini", "bagel", *registered()) else None
    except (InputError, MachineError):
        return None


def _check_among_themselves(shapes: Mapping[str, Shape], first_layer: int) -> None:
    layers: set[int] = set()
    for name in shapes:
        other = name.replace(".lora_A.", ".lora_B.") if ".lora_A." in name else name.replace(".lora_B.", ".lora_A.")
        if other not in shapes:
            raise Refusal(f"its adapter lacks the tensor {other}")
        named = TENSOR_NAME.fullmatch(name)
        assert named is not None
        layers.add(int(named["layer"]))
    gaps = sorted(set(range(first_layer, max(layers) + 1)) - layers)
    if gaps:
        raise Refusal(f"its adapter has no tensors for layer {gaps[0]}")


def _split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """The header of a safetensors file and what comes after it."""
    if len(data) < 8:
        raise Refusal("its adapter is too short")
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER, len(data) - 8):
        raise Refusal("its adapter has a header of impossible size")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refusal("the adapter's header is not valid JSON") from error
    metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not header:
        raise Refusal("its adapter holds no tensors")
    return header, memoryview(data)[8 + length :]


def _offsets(entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(o) is int and o >= 0 for o in offsets):
        raise Refusal("its adapter has a tensor without a place")
    return offsets[0], offsets[1]


def _finite(raw: memoryview, dtype: str) -> bool:
    if dtype == "F32":
        return bool(np.isfinite(np.frombuffer(raw, "<f4")).all())
    if dtype == "F16":
        return bool(np.isfinite(np.frombuffer(raw, "<f2")).all())
    # bf16: infinite or no number when all eight exponent bits are set
    return bool(((np.frombuffer(raw, "<u2") & 0x7F80) != 0x7F80).all())


def _is_any(raw: memoryview, dtype: str) -> bool:
    """Whether any value is not zero; the sign of a zero does not count."""
    if dtype == "F32":
        return bool((np.frombuffer(raw, "<u4") & 0x7FFFFFFF).any())
    return bool((np.frombuffer(raw, "<u2") & 0x7FFF).any())
