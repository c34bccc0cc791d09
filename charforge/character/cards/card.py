"""A card's document -> typed fields, with the document itself kept whole.

Written after the published specifications of the three versions and what programs really write: V2 data under a V3
``spec``, books as lists or as numbered objects, absent or null fields. Unknown keys and ``extensions`` are never
touched: they stay in ``document`` and are written back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from charforge.errors import InputError

V1_FIELDS = ("name", "description", "personality", "scenario", "first_mes", "mes_example")
REMEDY = "export it again from the program it comes from"


@dataclass(frozen=True)
class Entry:
    """One entry of a lorebook. ``content`` has no decorators."""

    content: str
    keys: tuple[str, ...]
    enabled: bool


@dataclass(frozen=True)
class Card:
    """What charforge uses of a card, and the whole ``document`` in the V3 shape ({spec, spec_version, data, ...})."""

    name: str
    description: str
    personality: str
    scenario: str
    first_mes: str
    mes_example: str
    alternate_greetings: tuple[str, ...]
    creator: str
    entries: tuple[Entry, ...]
    document: dict[str, Any]


def parse_card(document: object, where: str) -> Card:
    """A card of any version. Raises InputError, with ``where`` as its subject, when it is none."""
    if not isinstance(document, dict):
        raise InputError(f"{where} is not a character card (not a JSON object): {REMEDY}")
    data = document.get("data") if isinstance(document.get("data"), dict) else None
    if data is None:
        if not isinstance(document.get("name"), str) or not any(
            isinstance(document.get(f), str) for f in V1_FIELDS[1:]
        ):
            raise InputError(f"{where} is not a character card (no name, no description): {REMEDY}")
        # V1: the fields lie flat; what else lies there is kept beside them
        data = dict(document)
        document = {"spec": "chara_card_v1", "spec_version": "1.0", "data": data}
    book = data.get("character_book")
    return Card(
        **{field: _text(data, field) for field in V1_FIELDS},
        alternate_greetings=tuple(text for text in _list(data, "alternate_greetings") if isinstance(text, str)),
        creator=_text(data, "creator"),
        entries=parse_entries(book) if isinstance(book, dict) else (),
        document=document,
    )


def parse_lorebook(document: object, where: str) -> tuple[Entry, ...]:
    """A stand-alone lorebook: ``lorebook_v3``, or the world info file of a chat front end."""
    if isinstance(document, dict):
        book = document.get("data") if isinstance(document.get("data"), dict) else document
        if isinstance(book, dict) and isinstance(book.get("entries"), list | dict):
            return parse_entries(book)
    raise InputError(f"{where} is not a lorebook (no entries): {REMEDY}")


def parse_entries(book: Mapping[str, Any]) -> tuple[Entry, ...]:
    """Entries in their own order; what is not an entry is passed over."""
    raw = book.get("entries")
    rows = list(raw.values()) if isinstance(raw, dict) else raw if isinstance(raw, list) else []
    entries = []
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("content"), str):
            keys = row.get("keys", row.get("key"))
            enabled = row.get("enabled", not row.get("disable", False))
            entries.append(
                Entry(
                    without_decorators(row["content"]),
                    tuple(key for key in keys if isinstance(key, str)) if isinstance(keys, list) else (),
                    enabled is not False,
                )
            )
    return tuple(entries)


def without_decorators(content: str) -> str:
    """The content of an entry without the ``@@depth 4`` lines (and ``@@@`` fallbacks) before it."""
    lines = content.split("\n")
    while lines and lines[0].lstrip().startswith("@@"):
        lines.pop(0)
    return "\n".join(lines).strip()


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return value if isinstance(value, list) else []
