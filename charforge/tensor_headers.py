"""What a safetensors file promises, read from its header alone: no tensor data, no torch, milliseconds for 29 GB.

Format: 8 bytes little-endian length N, N bytes of JSON ``{name: {dtype, shape, data_offsets}}``, then the data.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from charforge.errors import InputError

ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
# the limit of the reference implementation: a longer header is an attack or garbage
LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class StoredTensor:
    """One tensor on disk: ``start`` is the absolute offset in bytes, ``length`` its size in bytes."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    length: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class Malformed(Exception):
    """What is wrong with a safetensors file, as a sentence without its subject."""


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of ``file`` by name, in the order of their data.

    Raises InputError in one sentence when the file is missing, truncated, longer than promised or not safetensors.
    """
    if not file.is_file():
        raise InputError(f"{file} is missing: the base is not complete; fetch it again")
    try:
        with file.open("rb") as opened:
            return parse_header(opened, file.stat().st_size, file)
    except Malformed as error:
        raise InputError(f"{file} {error}; fetch it again") from error


def parse_header(opened: BinaryIO, size: int, file: Path, longest: int = LONGEST_HEADER) -> dict[str, StoredTensor]:
    """The tensors of the safetensors file of ``size`` bytes that begins in ``opened``, in the order of their data.

    They fill the file without a gap. ``file`` is where they are said to be stored; a header of more than ``longest``
    bytes is not read. Raises Malformed; names in it are shortened and quoted, for they may be anybody's.
    """
    length = int.from_bytes(opened.read(8), "little")
    if size < 8 or length < 2 or length > longest:
        raise _malformed("its first eight bytes are no header length")
    raw = opened.read(length)
    if len(raw) < length:
        raise Malformed(f"is truncated: {size:,} bytes are here, its header alone has {length + 8:,}")
    begin = 8 + length
    tensors = [_stored(file, name, entry, begin) for name, entry in _entries(raw).items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.length))
    end = begin
    for tensor in tensors:
        if tensor.start != end:
            raise _malformed(f"the data of {_shown(tensor.name)} does not begin where the tensor before it ends")
        end += tensor.length
    if size < end:
        raise Malformed(f"is truncated: {size:,} bytes are here, its header promises {end:,}")
    if size > end:
        raise _malformed(f"{size - end:,} bytes follow its last tensor")
    return {tensor.name: tensor for tensor in tensors}


def _entries(raw: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_doubles)
    except (ValueError, RecursionError) as error:
        raise _malformed("its header is not JSON") from error
    if not isinstance(entries, dict):
        raise _malformed("its header is not a table")
    entries.pop("__metadata__", None)
    return entries


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise _malformed("its header names something twice")
    return table


def _stored(file: Path, name: str, entry: Any, begin: int) -> StoredTensor:
    try:
        dtype, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, first, last]
    except (TypeError, KeyError, ValueError) as error:
        raise _malformed(f"the entry of {_shown(name)} is incomplete") from error
    known = isinstance(dtype, str) and dtype in ITEM_BYTES
    if not known or not all(type(number) is int and number >= 0 for number in numbers):
        raise _malformed(f"the entry of {_shown(name)} has an unknown dtype or a number that is none")
    length = math.prod(shape) * ITEM_BYTES[dtype]
    if last - first != length:
        raise _malformed(f"{_shown(name)} has {last - first} bytes where its shape needs {length}")
    return StoredTensor(file, name, dtype, tuple(shape), begin + first, length)


def _shown(name: str) -> str:
    return repr(name[:80])


def _malformed(what: str) -> Malformed:
    return Malformed(f"is not a well-formed safetensors file: {what}")
