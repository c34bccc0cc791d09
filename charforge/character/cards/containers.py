"""Cards out of files: PNG text chunks, JSON, CHARX. Sizes are bounded before anything is unpacked."""

from __future__ import annotations

import base64
import binascii
import io
import json
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charforge.character.cards.card import REMEDY, Card, parse_card
from charforge.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n"
ZIP = b"PK\x03\x04"
MAX_FILE = 64 << 20
MAX_TEXT = 8 << 20
MAX_MEMBERS = 2000
MAX_RATIO = 200
_KEYWORDS = (b"ccv3", b"chara")
"""In order of preference."""


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
    """The card in the bytes of a PNG, CHARX or JSON file; ``where`` names it in errors."""
    if data.startswith(PNG):
        return parse_card(_json(_from_png(data, where), where), where)
    # a self-extracting CHARX has a program before the zip; JSON cannot hold the zip's mark
    if ZIP in data[: 4 << 20] and data.lstrip()[:1] != b"{":
        return parse_card(_json(_from_zip(data, where), where), where)
    return parse_card(_json(data, where), where)


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
    try:
        return base64.b64decode(text, validate=False)
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


def _from_zip(data: bytes, where: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise InputError(f"{where} holds {len(members)} files, more than a card has: {REMEDY}")
            named = [member for member in members if member.filename == "card.json"]
            if len(named) != 1:
                raise InputError(f"{where} is a zip without one card.json at its root: {REMEDY}")
            card = named[0]
            if stat.S_ISLNK(card.external_attr >> 16) or card.flag_bits & 1:
                raise InputError(f"{where} holds a card.json that is a link or encrypted: {REMEDY}")
            if card.file_size > MAX_TEXT or card.file_size > MAX_RATIO * max(1, card.compress_size):
                raise InputError(f"{where} holds a card.json that is too large: {REMEDY}")
            # the size in the directory may lie: read no more than it says
            with archive.open(card) as member:
                text = member.read(card.file_size + 1)
            if len(text) != card.file_size:
                raise InputError(f"{where} holds a card.json of another size than it says: {REMEDY}")
            return text
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{where} is a damaged zip file: {REMEDY}") from error


def _json(data: bytes, where: str) -> Any:
    if len(data) > MAX_TEXT:
        raise InputError(f"{where} holds a card of more than {MAX_TEXT >> 20} MB: {REMEDY}")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where} holds a card that is not UTF-8 text: {REMEDY}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} holds a card that is not JSON: {REMEDY}") from error
