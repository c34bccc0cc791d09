"""The adapter of a bundle, checked by hand: nobody's file is handed to a library before it is known to be whole."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from charforge.adapter.names import PREFIX, tensor_shapes
from charforge.bases.where import base_shapes, registered
from charforge.errors import InputError, MachineError
from charforge.families.protocol import Shapes
from charforge.tensor_headers import Malformed, parse_header

MAX_HEADER = 8 << 20
# the name of a module inside a list of layers, as every family has it
TENSOR_NAME = re.compile(
    re.escape(PREFIX)
    + r"(?:[A-Za-z_]{1,32}\.){1,8}(?P<layer>\d{1,3})\.(?P<linear>(?:[A-Za-z_]{1,32}\.){0,3}[a-z_]{1,32})"
    r"\.lora_(?P<side>[AB])\.weight"
)
FLOATS = ("F32", "F16", "BF16")

Shape = tuple[int, int]


class Refusal(Exception):
    """Why a bundle is not used."""


def check_adapter(data: bytes, rank: int) -> dict[str, Shape]:
    """Shape by name of the tensors of a safetensors file: header, names, types, extent and values are checked.

    Raises Refusal for whatever is no LoRA of ``rank``, for values that are no numbers, and for an adapter that
    changes nothing because it is zero.
    """
    try:
        tensors = parse_header(io.BytesIO(data), len(data), Path("adapter_model.safetensors"), MAX_HEADER)
    except Malformed as error:
        raise Refusal(f"its adapter {error}") from error
    if not tensors:
        raise Refusal("its adapter holds no tensors")
    shapes: dict[str, Shape] = {}
    acts = False
    for name, tensor in tensors.items():
        named = TENSOR_NAME.fullmatch(name)
        if named is None:
            raise Refusal(f"its adapter holds the tensor {name[:80]!r}, which does not belong there")
        shape = tensor.shape
        if tensor.dtype not in FLOATS:
            raise Refusal(f"the tensor {name} is of type {tensor.dtype}, expected floating point")
        sides = len(shape) == 2 and all(0 < side <= 1 << 17 for side in shape)
        if not sides or shape[0 if named["side"] == "A" else 1] != rank:
            raise Refusal(f"the tensor {name} has the shape {str(list(shape))[:40]}, which is no LoRA of rank {rank}")
        values = memoryview(data)[tensor.start : tensor.start + tensor.length]
        if not _finite(values, tensor.dtype):
            raise Refusal(f"the tensor {name} holds values that are no numbers")
        # what is added is B times A: where every B is zero, so is the change
        acts = acts or (named["side"] == "B" and _is_any(values, tensor.dtype))
        shapes[name] = (shape[0], shape[1])
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
