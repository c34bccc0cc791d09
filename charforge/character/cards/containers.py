"""Cards out of files: PNG, APNG and WEBP pictures, JSON, CHARX. Sizes are bounded before anything is unpacked."""

from __future__ import annotations

import base64
import binascii
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from charforge.character.cards.card import Card, parse_card
from charforge.character.cards.lorebook import REMEDY
from charforge.character.cleaning import decoded
from charforge.character.json_text import parse_json
from charforge.character.listing import is_system_path
from charforge.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n"
MAX_FILE = 64 << 20
MAX_TEXT = 8 << 20
MAX_MEMBERS = 2000
MAX_RATIO = 200
_KEYWORDS = (b"ccv3", b"chara")
"""In order of preference."""
_END_OF_ZIP = b"PK\x05\x06"
_USER_COMMENT, _DESCRIPTION = 0x9286, 0x010E
"""EXIF fields in which programs put a card into a WEBP or a JPEG."""


def read_card(path: Path) -> Card:
    """The card in ``path``, whatever its extension says. Raises InputError with one line when there is none."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise InputError(f"{path.name} is larger than {MAX_FILE >> 20} MB: no card is")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror}): make the file readable for you") from error
    return read_card_bytes(data, path.name)


def read_card_bytes(data: bytes, where: str) -> Card:
    """The card in the bytes of a picture, CHARX or JSON file; ``where`` names it in errors."""
    if data.startswith(PNG) and any(True for _ in _card_chunks(data, where)):
        return _parsed(_from_png(data, where), where)
    # found from its end: a CHARX may have a picture or a program of any length before the zip
    if _is_zip(data):
        return _from_zip(data, where)
    if data.startswith(PNG):
        return _parsed(_from_png(data, where), where)
    if _is_webp(data) or data.startswith(b"\xff\xd8\xff"):
        return _parsed(_from_exif(data, where), where)
    return _parsed(data, where)


def _is_zip(data: bytes) -> bool:
    # the record at a zip's end is followed by a comment of 64 KB at most; JSON cannot hold its mark
    return data.startswith(b"PK\x03\x04") or (
        _END_OF_ZIP in data[-(22 + 65535) :] and data.lstrip()[:1] not in (b"{", b"[")
    )


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _parsed(text: bytes, where: str) -> Card:
    document, remarks = _json(text, where)
    card = parse_card(document, where)
    return replace(card, remarks=(*remarks, *card.remarks)) if remarks else card


def carries_card(path: Path) -> bool:
    """Whether a picture or a zip holds a card at all; it may still be a broken one."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE)
        if data.startswith(PNG) and any(True for _ in _card_chunks(data, path.name)):
            return True
        if _is_webp(data) or data.startswith(b"\xff\xd8\xff"):
            return bool(_exif_text(data)) or (_is_zip(data) and _zip_names_card(data))
        return _is_zip(data) and _zip_names_card(data)
    except (OSError, InputError):
        return False


def png_carries_card(path: Path) -> bool:
    """Whether a PNG holds a card at all (it may still be a broken one). False for what cannot be read as PNG."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE)
        return data.startswith(PNG) and any(True for _ in _card_chunks(data, path.name))
    except (OSError, InputError):
        return False


def png_chunks(data: bytes, where: str) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the chunk, start of the next) for each chunk up to IEND. Raises InputError for a torn file."""
    at = len(PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + length
        if end > len(data):
            break
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end
    raise InputError(f"{where} is a PNG that ends too early: {REMEDY}")


def _card_chunks(data: bytes, where: str) -> Iterator[tuple[bytes, bytes]]:
    """(keyword, text) of the chunks that hold a card."""
    for kind, start, end in png_chunks(data, where):
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            continue
        keyword, found, rest = data[start + 8 : end - 4].partition(b"\0")
        if not found or keyword.lower() not in _KEYWORDS:
            continue
        if kind == b"zTXt":
            rest = _inflated(rest[1:], where)
        elif kind == b"iTXt":
            packed, _, rest = rest[:1], rest[1:2], rest[2:]
            rest = rest.split(b"\0", 2)[-1]
            rest = _inflated(rest, where) if packed == b"\1" else rest
        yield keyword.lower(), rest


def _from_png(data: bytes, where: str) -> bytes:
    chunks = dict(reversed(list(_card_chunks(data, where))))
    text = next((chunks[keyword] for keyword in _KEYWORDS if keyword in chunks), None)
    if text is None:
        raise InputError(f"{where} is a picture without a character card in it: {REMEDY}")
    if len(text) > MAX_TEXT * 4 // 3 + 4:
        raise InputError(f"{where} holds a card of more than {MAX_TEXT >> 20} MB: {REMEDY}")
    return _from_base64(text, where)


def _from_base64(text: bytes, where: str) -> bytes:
    """The bytes of a card; some programs write its JSON as it is, and some leave out the padding."""
    if text.lstrip()[:1] == b"{":
        return text
    try:
        bare = b"".join(text.split()).rstrip(b"=")
        return base64.b64decode(bare + b"=" * (-len(bare) % 4), validate=False)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{where} holds a card that is not base64: {REMEDY}") from error


def _inflated(packed: bytes, where: str) -> bytes:
    try:
        inflater = zlib.decompressobj()
        text = inflater.decompress(packed, MAX_TEXT * 4 // 3 + 4)
    except zlib.error as error:
        raise InputError(f"{where} holds a damaged text chunk: {REMEDY}") from error
    if inflater.unconsumed_tail:
        raise InputError(f"{where} holds a card of more than {MAX_TEXT >> 20} MB: {REMEDY}")
    return text


def _exif_text(data: bytes) -> bytes:
    """The text of a card in a picture's EXIF fields, or nothing."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("WEBP", "JPEG")) as image:
            exif = image.getexif()
            values = [exif.get_ifd(0x8769).get(_USER_COMMENT), exif.get(_DESCRIPTION), exif.get(_USER_COMMENT)]
    except (OSError, ValueError, SyntaxError, MemoryError, struct.error, Image.DecompressionBombError):
        return b""
    for value in values:
        text = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else b""
        # eight bytes before a comment name its encoding
        for bare in (text, text[8:]):
            bare = bare.strip(b"\0 \t\r\n")
            if bare[:1] == b"{" or bare[:2] == b"ey":
                return bare
    return b""


def _from_exif(data: bytes, where: str) -> bytes:
    text = _exif_text(data)
    if not text:
        raise InputError(f"{where} is a picture without a character card in it: {REMEDY}")
    if len(text) > MAX_TEXT * 4 // 3 + 4:
        raise InputError(f"{where} holds a card of more than {MAX_TEXT >> 20} MB: {REMEDY}")
    return _from_base64(text, where)


def _zip_names_card(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(
                PurePosixPath(name.replace("\\", "/")).name.lower() == "card.json" for name in archive.namelist()
            )
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError, struct.error):
        return False


def _from_zip(data: bytes, where: str) -> Card:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise InputError(f"{where} holds {len(members)} files, more than a card has: {REMEDY}")
            member = _card_member(members, where)
            text = _unpacked(archive, member, where)
    except (
        zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError, zlib.error, struct.error,
    ) as error:  # fmt: skip
        raise InputError(f"{where} is a damaged zip file: {REMEDY}") from error
    name = member.filename
    card = _parsed(_from_png(text, where) if text.startswith(PNG) else text, where)
    remarks = [] if name == "card.json" else [f"has its card in {name} inside the zip"]
    modules = [other.filename for other in members if other.filename.lower().endswith(".risum")]
    unread = tuple((name, name, "a module of RisuAI, packed so that only RisuAI reads it") for name in modules)
    return replace(card, remarks=(*remarks, *card.remarks), unread=(*card.unread, *unread))


def _card_member(members: list[zipfile.ZipInfo], where: str) -> zipfile.ZipInfo:
    """The one member that is the card: card.json at the root, in a folder, or a picture that carries one."""
    own = [
        member
        for member in members
        if not member.filename.endswith("/") and not is_system_path(member.filename) and _stays_inside(member.filename)
    ]
    at_root = [member for member in own if member.filename == "card.json"]
    named = at_root or [member for member in own if PurePosixPath(member.filename).name.lower() == "card.json"]
    found = named or [member for member in own if member.filename.lower().endswith((".png", ".apng"))]
    if len(found) != 1:
        raise InputError(f"{where} is a zip without one card.json: {REMEDY}")
    return found[0]


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts and ":" not in (path.parts or ("",))[0]


def _unpacked(archive: zipfile.ZipFile, card: zipfile.ZipInfo, where: str) -> bytes:
    """The bytes of the card, no more than its directory entry says."""
    name = PurePosixPath(card.filename).name
    if stat.S_ISLNK(card.external_attr >> 16) or card.flag_bits & 1:
        raise InputError(f"{where} holds a {name} that is a link or encrypted: {REMEDY}")
    most = MAX_TEXT if name.lower() == "card.json" else MAX_FILE
    if card.file_size > most or card.file_size > MAX_RATIO * max(1, card.compress_size):
        raise InputError(f"{where} holds a {name} that is too large: {REMEDY}")
    # the size in the directory may lie: read no more than it says
    with archive.open(card) as member:
        text = member.read(card.file_size + 1)
    if len(text) != card.file_size:
        raise InputError(f"{where} holds a {name} of another size than it says: {REMEDY}")
    return text


def _json(data: bytes, where: str) -> tuple[Any, tuple[str, ...]]:
    """The document, and what was odd about its encoding."""
    if len(data) > MAX_TEXT:
        raise InputError(f"{where} holds a card of more than {MAX_TEXT >> 20} MB: {REMEDY}")
    text = decoded(data)
    if text is None:
        raise InputError(f"{where} holds a card that is not UTF-8 text: {REMEDY}")
    try:
        document = parse_json(text.text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} holds a card that is not JSON: {REMEDY}") from error
    return document, (f"is not UTF-8 text: it was read as {text.encoding}",) if text.encoding != "utf-8" else ()
