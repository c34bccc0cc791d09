"""Reading a bundle. It may come from anyone: everything is checked before anything is used."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from charforge.bundle.adapter import Refusal, check_adapter, check_tensor_set
from charforge.bundle.manifest import (
    ADAPTER,
    ADAPTER_CONFIG,
    AVATAR,
    CARD,
    FORMAT_VERSION,
    MANIFEST,
    REQUIRED,
    Manifest,
    sprites_among,
)
from charforge.bundle.signature import BrokenSignature, signature_file, signer_of
from charforge.bundle.versions import as_today, card_of_today, is_readable
from charforge.character.cards import Card, read_card
from charforge.character.listing import is_system_path
from charforge.errors import InputError
from charforge.files import write_atomic
from charforge.words import printable_line

MAX_MEMBERS = 64
MAX_ADAPTER = 2 << 30
MAX_OTHER = 16 << 20
MAX_RATIO = 200
MAX_SIDE = 4096
EXTENSIONS = {".png", ".json", ".safetensors", ".md", ".txt", ".jpg", ".webp"}
PLAIN_LORA: dict[str, object] = {
    "bias": "none", "use_dora": False, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {},
    "modules_to_save": [], "fan_in_fan_out": False, "lora_bias": False, "layer_replication": [],
    "target_parameters": [], "use_qalora": False, "trainable_token_indices": [], "megatron_config": {},
    "exclude_modules": [],
}  # fmt: skip
"""Settings of peft that change what the weights mean, and what they are in a plain LoRA."""
REMEDY = "ask the sender for a fresh export"
CARD_REMEDY = (
    "talk to it on the bare base with `charforge chat {path} --bare`, or put it into a folder with about 10 pictures "
    "in images/ and train it: `charforge train FOLDER`"
)


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


class BundleError(InputError):
    """A file that is no bundle to be used: which, why not, what to do."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path} {problem}; {remedy}")
        self.problem, self.remedy = problem, remedy


def read_bundle(path: Path) -> Bundle:
    """Verify and read ``path``. Raises BundleError with one sentence on whatever is wrong.

    An ordinary character card, which has no adapter, is named as one. A signature that lies beside it must be right;
    none is as good.
    """
    if path.is_dir():
        raise BundleError(path, "is a folder", "name the .charx file that charforge train wrote")
    if not path.exists():
        raise BundleError(path, "does not exist", "name the .charx file that charforge train wrote")
    if not path.is_file():
        raise BundleError(path, "is not a plain file", "name the .charx file that charforge train wrote")
    try:
        contents = _read_members(path)
        manifest = _read_manifest(contents)
        _check_hashes(contents, manifest)
        _check_adapter_config(contents[ADAPTER_CONFIG], manifest)
        shapes = check_adapter(contents[ADAPTER], manifest.adapter.rank)
        check_tensor_set(shapes, manifest.base.name, manifest.adapter.rank, manifest.adapter.first_layer)
        _check_picture(contents[AVATAR], "avatar")
        for label, member in sprites_among(contents).items():
            _check_picture(contents[member], f"picture of {printable_line(label[:40])}")
        card = _read_card(contents[CARD])
        signer_of(path)
    except BrokenSignature as error:
        told = f"is refused: its signature {signature_file(path).name} {error}"
        raise BundleError(path, told, "ask the sender for both files again") from error
    except PermissionError as error:
        raise BundleError(path, "cannot be read", "change its permissions") from error
    except Refusal as refusal:
        plain = plain_card(path)
        if plain is not None:
            told = f"is an ordinary character card of {printable_line(plain.name) or 'somebody'}, without an adapter"
            raise BundleError(path, told, CARD_REMEDY.format(path=path)) from refusal
        raise BundleError(path, f"is refused: {refusal}", REMEDY) from refusal
    return Bundle(path, manifest, card, contents)


def plain_card(path: Path) -> Card | None:
    """The ordinary character card in ``path``; None for a bundle, also a damaged one, and for anything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {PurePosixPath(name).name for name in archive.namelist()}
        if {PurePosixPath(MANIFEST).name, PurePosixPath(ADAPTER).name} & names:
            return None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        # no zip: a card may be a PNG or JSON
        pass
    try:
        return read_card(path)
    except InputError:
        return None


def _read_members(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS:
                raise Refusal(f"it has {len(infos)} members, more than {MAX_MEMBERS}")
            members = _named([info for info in infos if not _is_folder(info) and not is_system_path(info.filename)])
            if len({name.lower() for name, _ in members}) != len(members):
                raise Refusal("two members have the same name")
            for name, info in members:
                _check_name(info)
                _check_size(name, info)
            names = [name for name, _ in members]
            missing = [name for name in REQUIRED if name not in names]
            if missing:
                raise Refusal(f"{missing[0]} is missing")
            return {name: _bytes_of(archive, info) for name, info in members}
    except PermissionError:
        raise
    # RuntimeError: encrypted; NotImplementedError: unknown compression; ValueError, EOFError and zlib's
    # OSError relatives: damaged data. All mean the same to the user.
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OSError, OverflowError) as error:
        raise Refusal(f"it is not a readable zip ({str(error) or type(error).__name__})") from error
    except Exception as error:
        # zlib.error, lzma.LZMAError and struct.error share no base class but Exception
        if isinstance(error, Refusal):
            raise
        raise Refusal(f"its compressed data is damaged ({type(error).__name__})") from error


def _is_folder(info: zipfile.ZipInfo) -> bool:
    """Whether a member is the entry of a folder, as programs write them that zip a bundle anew."""
    return info.filename.endswith("/") and not info.file_size


def _named(infos: list[zipfile.ZipInfo]) -> list[tuple[str, zipfile.ZipInfo]]:
    """Members by name. Where all of them lie in one folder (a bundle unpacked and zipped anew), without it."""
    top = {info.filename.partition("/")[0] for info in infos if "/" in info.filename}
    inside = [info for info in infos if "/" in info.filename]
    if (
        len(top) == 1
        and len(inside) == len(infos)
        and f"{(prefix := top.pop())}/{MANIFEST}" in {info.filename for info in infos}
    ):
        return [(info.filename.removeprefix(f"{prefix}/"), info) for info in infos]
    return [(info.filename, info) for info in infos]


def _check_name(info: zipfile.ZipInfo) -> None:
    # orig_filename: zipfile cuts a name at a null byte, others may not
    name = info.orig_filename
    shown = repr(name[:80])
    pure = PurePosixPath(name)
    odd = "\\" in name or ":" in name or not name.isprintable() or name != info.filename
    if odd or pure.is_absolute() or ".." in pure.parts or name.startswith("/") or not name.strip():
        raise Refusal(f"the member name {shown} is not safe")
    mode = info.external_attr >> 16
    if info.is_dir() or (mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode)):
        raise Refusal(f"the member {shown} is no plain file")
    if info.flag_bits & 0x1:
        raise Refusal(f"the member {shown} is encrypted")
    if pure.suffix.lower() not in EXTENSIONS:
        raise Refusal(f"the member {shown} is of a kind that does not belong in a bundle")


def _limit(name: str) -> int:
    return MAX_ADAPTER if name == ADAPTER else MAX_OTHER


def _check_size(name: str, info: zipfile.ZipInfo) -> None:
    if info.file_size > _limit(name):
        raise Refusal(f"the member {name} is larger than {_limit(name) >> 20} MiB")
    if info.file_size > 1 << 16 and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        raise Refusal(f"the member {info.filename} is compressed beyond belief")


def _bytes_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as member:
        # the declared size is only a claim: read one byte more than it allows
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise Refusal(f"the member {info.filename} has another size than it claims")
    return data


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise Refusal(f"{name} is not valid JSON") from error
    if not isinstance(value, dict):
        raise Refusal(f"{name} is no JSON object")
    return value


def _read_manifest(contents: dict[str, bytes]) -> Manifest:
    raw = _object(contents[MANIFEST], MANIFEST)
    version = raw.get("format_version")
    if not is_readable(version):
        raise Refusal(f"its format is version {repr(version)[:20]}, this charforge reads 1 to {FORMAT_VERSION}")
    try:
        return Manifest.model_validate(as_today(raw))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Refusal(f"{MANIFEST} is wrong at {place} ({first['msg'].lower()})") from error


def _read_card(data: bytes) -> dict[str, Any]:
    card = _object(data, CARD)
    if not isinstance(card.get("data"), dict):
        raise Refusal(f"{CARD} has no data")
    return card_of_today(card)


def _check_hashes(contents: dict[str, bytes], manifest: Manifest) -> None:
    for name, data in contents.items():
        if name == MANIFEST:
            continue
        if name not in manifest.members:
            raise Refusal(f"the member {name} is not listed in {MANIFEST}")
        if hashlib.sha256(data).hexdigest() != manifest.members[name]:
            raise Refusal(f"the hash of {name} is wrong: it was damaged or changed")
    absent = sorted(set(manifest.members) - set(contents))
    if absent:
        raise Refusal(f"{absent[0]} is listed but missing")


def _check_adapter_config(data: bytes, manifest: Manifest) -> None:
    config = _object(data, "adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise Refusal("its adapter is not LoRA")
    if (config.get("r"), config.get("lora_alpha")) != (manifest.adapter.rank, manifest.adapter.alpha):
        raise Refusal(f"rank or alpha differ between adapter_config.json and {MANIFEST}")
    # names a Python module to import: never from a stranger
    if config.get("auto_mapping") is not None:
        raise Refusal("adapter_config.json asks to import code")
    # with any of these, peft would make something else of the same weights than what is checked and used here
    for name, plain in PLAIN_LORA.items():
        if config.get(name) not in (None, plain):
            raise Refusal(f"adapter_config.json has {name}, which no adapter of charforge has")


def _check_picture(data: bytes, which: str) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if max(image.size) > MAX_SIDE:
                raise Refusal(f"its {which} is {image.width} x {image.height} pixels, more than {MAX_SIDE}")
            image.load()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise Refusal(f"its {which} is not a readable PNG") from error
