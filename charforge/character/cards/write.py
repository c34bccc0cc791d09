"""Cards as every front end reads them: the document in both versions, as JSON, and inside a PNG."""

from __future__ import annotations

import base64
import copy
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from charforge.character.cards.containers import PNG, png_chunks
from charforge.character.cards.lorebook import without_decorators
from charforge.errors import InputError

_DEFAULTS: dict[str, Any] = {
    "name": "", "description": "", "personality": "", "scenario": "", "first_mes": "", "mes_example": "",
    "creator_notes": "", "system_prompt": "", "post_history_instructions": "", "alternate_greetings": [], "tags": [],
    "creator": "", "character_version": "", "extensions": {},
}  # fmt: skip
V3_ONLY = (
    "assets", "nickname", "creator_notes_multilingual", "source", "group_only_greetings", "creation_date",
    "modification_date",
)  # fmt: skip


def as_v3(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as V3 with every V2 field too: the specification contradicts itself, programs read both."""
    out = copy.deepcopy(dict(document))
    data = {**copy.deepcopy(_DEFAULTS), "group_only_greetings": [], **out.get("data", {})}
    return {**out, "spec": "chara_card_v3", "spec_version": _version(out), "data": data}


def as_v2(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as V2: V3 fields left out, decorators removed from the book. Unknown keys stay."""
    full = as_v3(document)
    data = {key: value for key, value in full["data"].items() if key not in V3_ONLY}
    book = data.get("character_book")
    if isinstance(book, dict) and isinstance(book.get("entries"), list):
        for entry in book["entries"]:
            if isinstance(entry, dict) and isinstance(entry.get("content"), str):
                entry["content"] = without_decorators(entry["content"])
    return {**full, "spec": "chara_card_v2", "spec_version": "2.0", "data": data}


def card_json(document: Mapping[str, Any]) -> bytes:
    """The V3 document as UTF-8 JSON."""
    return json.dumps(as_v3(document), ensure_ascii=False, indent=1).encode()


def card_png(document: Mapping[str, Any], png: bytes) -> bytes:
    """``png`` with the card in both chunks before IEND; older cards in it are removed, its pixels stay to the byte.

    Raises InputError when ``png`` is not a whole PNG.
    """
    if not png.startswith(PNG):
        raise InputError("a card needs a PNG picture: convert the picture first")
    kept = [PNG]
    for kind, start, end in png_chunks(png, "the picture"):
        keyword = png[start + 8 : end - 4].partition(b"\0")[0].lower()
        if kind in (b"tEXt", b"zTXt", b"iTXt") and keyword in (b"chara", b"ccv3"):
            continue
        if kind == b"IEND":
            kept += [_text_chunk(b"chara", as_v2(document)), _text_chunk(b"ccv3", as_v3(document))]
        kept.append(png[start:end])
    return b"".join(kept)


def _text_chunk(keyword: bytes, document: Mapping[str, Any]) -> bytes:
    body = b"tEXt" + keyword + b"\0" + base64.b64encode(json.dumps(document, ensure_ascii=False).encode())
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _version(document: Mapping[str, Any]) -> str:
    """The document's own version when it is a newer V3, otherwise 3.0."""
    try:
        version = float(document.get("spec_version", 0))
    except (TypeError, ValueError):
        return "3.0"
    return str(document["spec_version"]) if document.get("spec") == "chara_card_v3" and version > 3 else "3.0"
