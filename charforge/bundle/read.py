"""Reading a bundle. It may come from anyone: everything is checked before anything is used."""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pydantic import ValidationError

from charforge.bundle.manifest import (
    ADAPTER,
    ADAPTER_CONFIG,
    AVATAR,
    CARD,
    FORMAT_VERSION,
    MANIFEST,
    REQUIRED,
    Manifest,
)
from charforge.errors import InputError
from charforge.files import write_atomic

MAX_MEMBERS = 64
MAX_ADAPTER = 2 << 30
MAX_OTHER = 16 << 20
MAX_RATIO = 200
MAX_HEADER = 8 << 20
MAX_SIDE = 4096
EXTENSIONS = {".png", ".json", ".safetensors", ".md", ".txt", ".jpg", ".webp"}
TENSOR_NAME = re.compile(
    r"base_model\.model\.language_model\.model\.layers\.\d{1,3}\.(self_attn|mlp(_moe_gen)?)\.[a-z_]{1,32}\.lora_[AB]\.weight"
)
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}
REMEDY = "ask the sender for a fresh export"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. ``contents`` holds every member's bytes, as they were checked."""

    path: Path
    manifest: Manifest
    card: dict[str, Any]
    contents: dict[str, bytes]

    def extract_adapter(self, folder: Path) -> None:
        """Write the two adapter files where peft expects them."""
        for member in (ADAPTER, ADAPTER_CONFIG):
            write_atomic(folder / PurePosixPath(member).name, self.contents[member])

    def avatar(self) -> bytes:
        """The avatar as PNG."""
        return self.contents[AVATAR]


def read_bundle(path: Path) -> Bundle:
    """Verify and read ``path``. Raises InputError with one sentence on whatever is wrong."""

    def refuse(reason: str) -> InputError:
        return InputError(f"{path} is refused: {reason}; {REMEDY}")

    if not path.is_file():
        raise InputError(f"{path} does not exist: name the .charx file that charforge train wrote")
    try:
        contents = _read_members(path)
        manifest = _read_manifest(contents)
        _check_hashes(contents, manifest)
        _check_adapter_config(contents[ADAPTER_CONFIG], manifest)
        check_adapter(contents[ADAPTER], manifest.adapter.rank)
        _check_picture(contents[AVATAR])
        card = _object(contents[CARD], CARD)
    except _Refusal as refusal:
        raise refuse(str(refusal)) from refusal
    return Bundle(path, manifest, card, contents)


class _Refusal(Exception):
    """Why a bundle is not used."""


def _read_members(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS:
                raise _Refusal(f"it has {len(infos)} members, more than {MAX_MEMBERS}")
            names = [info.filename for info in infos]
            if len({name.lower() for name in names}) != len(names):
                raise _Refusal("two members have the same name")
            for info in infos:
                _check_name(info)
                _check_size(info)
            missing = [name for name in REQUIRED if name not in names]
            if missing:
                raise _Refusal(f"{missing[0]} is missing")
            return {info.filename: _bytes_of(archive, info) for info in infos}
    # RuntimeError: encrypted; NotImplementedError: unknown compression; ValueError, EOFError and zlib's
    # OSError relatives: damaged data. All mean the same to the user.
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OSError, OverflowError) as error:
        raise _Refusal(f"it is not a readable zip ({str(error) or type(error).__name__})") from error
    except Exception as error:
        # zlib.error, lzma.LZMAError and struct.error share no base class but Exception
        if isinstance(error, _Refusal):
            raise
        raise _Refusal(f"its compressed data is damaged ({type(error).__name__})") from error


def _check_name(info: zipfile.ZipInfo) -> None:
    # orig_filename: zipfile cuts a name at a null byte, others may not
    name = info.orig_filename
    shown = repr(name[:80])
    pure = PurePosixPath(name)
    odd = "\\" in name or ":" in name or not name.isprintable() or name != info.filename
    if odd or pure.is_absolute() or ".." in pure.parts or name.startswith("/") or not name.strip():
        raise _Refusal(f"the member name {shown} is not safe")
    mode = info.external_attr >> 16
    if info.is_dir() or (mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode)):
        raise _Refusal(f"the member {shown} is no plain file")
    if info.flag_bits & 0x1:
        raise _Refusal(f"the member {shown} is encrypted")
    if pure.suffix.lower() not in EXTENSIONS:
        raise _Refusal(f"the member {shown} is of a kind that does not belong in a bundle")


def _limit(name: str) -> int:
    return MAX_ADAPTER if name == ADAPTER else MAX_OTHER


def _check_size(info: zipfile.ZipInfo) -> None:
    if info.file_size > _limit(info.filename):
        raise _Refusal(f"the member {info.filename} is larger than {_limit(info.filename) >> 20} MiB")
    if info.file_size > 1 << 16 and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        raise _Refusal(f"the member {info.filename} is compressed beyond belief")


def _bytes_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as member:
        # the declared size is only a claim: read one byte more than it allows
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise _Refusal(f"the member {info.filename} has another size than it claims")
    return data


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise _Refusal(f"{name} is not valid JSON") from error
    if not isinstance(value, dict):
        raise _Refusal(f"{name} is no JSON object")
    return value


def _read_manifest(contents: dict[str, bytes]) -> Manifest:
    raw = _object(contents[MANIFEST], MANIFEST)
    version = raw.get("format_version")
    if version != FORMAT_VERSION:
        raise _Refusal(f"its format is version {version!r}, this charforge reads {FORMAT_VERSION}")
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _Refusal(f"{MANIFEST} is wrong at {place} ({first['msg'].lower()})") from error


def _check_hashes(contents: dict[str, bytes], manifest: Manifest) -> None:
    for name, data in contents.items():
        if name == MANIFEST:
            continue
        if name not in manifest.members:
            raise _Refusal(f"the member {name} is not listed in {MANIFEST}")
        if hashlib.sha256(data).hexdigest() != manifest.members[name]:
            raise _Refusal(f"the hash of {name} is wrong: it was damaged or changed")
    absent = sorted(set(manifest.members) - set(contents))
    if absent:
        raise _Refusal(f"{absent[0]} is listed but missing")


def _check_adapter_config(data: bytes, manifest: Manifest) -> None:
    config = _object(data, "adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise _Refusal("its adapter is not LoRA")
    if (config.get("r"), config.get("lora_alpha")) != (manifest.adapter.rank, manifest.adapter.alpha):
        raise _Refusal(f"rank or alpha differ between adapter_config.json and {MANIFEST}")
    # names a Python module to import: never from a stranger
    if config.get("auto_mapping") is not None:
        raise _Refusal("adapter_config.json asks to import code")


def check_adapter(data: bytes, rank: int) -> None:
    """Check a safetensors file by hand: header, names, shapes, dtypes, extent, finite values."""
    if len(data) < 8:
        raise _Refusal("its adapter is too short")
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER, len(data) - 8):
        raise _Refusal("its adapter has a header of impossible size")
    header = _object(data[8 : 8 + length], "the adapter's header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not header:
        raise _Refusal("its adapter holds no tensors")
    body = memoryview(data)[8 + length :]
    position = 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(item[1])):
        if not TENSOR_NAME.fullmatch(name):
            raise _Refusal(f"its adapter holds the tensor {name[:80]!r}, which does not belong there")
        begin, end = _offsets(entry)
        shape, dtype = entry.get("shape"), entry.get("dtype")
        if dtype not in WIDTHS:
            raise _Refusal(f"the tensor {name} is of type {str(dtype)[:16]}, expected floating point")
        sides = isinstance(shape, list) and len(shape) == 2 and all(type(s) is int and 0 < s <= 1 << 17 for s in shape)
        if not sides or shape[0 if "lora_A" in name else 1] != rank:
            raise _Refusal(f"the tensor {name} has the shape {str(shape)[:40]}, which is no LoRA of rank {rank}")
        if begin != position or end - begin != shape[0] * shape[1] * WIDTHS[dtype] or end > len(body):
            raise _Refusal(f"the tensor {name} lies outside its file")
        if not _finite(body[begin:end], dtype):
            raise _Refusal(f"the tensor {name} holds values that are no numbers")
        position = end
    if position != len(body):
        raise _Refusal("its adapter is longer than its tensors")


def _offsets(entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(o) is int and o >= 0 for o in offsets):
        raise _Refusal("its adapter has a tensor without a place")
    return offsets[0], offsets[1]


def _finite(raw: memoryview, dtype: str) -> bool:
    if dtype == "F32":
        return bool(np.isfinite(np.frombuffer(raw, "<f4")).all())
    if dtype == "F16":
        return bool(np.isfinite(np.frombuffer(raw, "<f2")).all())
    # bf16: infinite or no number when all eight exponent bits are set
    return bool(((np.frombuffer(raw, "<u2") & 0x7F80) != 0x7F80).all())


def _check_picture(data: bytes) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if max(image.size) > MAX_SIDE:
                raise _Refusal(f"its avatar is {image.width} x {image.height} pixels, more than {MAX_SIDE}")
            image.load()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise _Refusal("its avatar is not a readable PNG") from error
