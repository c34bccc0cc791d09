"""A card's document -> typed fields, with the document itself kept whole.

Written after the published specifications of the three versions and what programs really write: V2 data under a V3
``spec``, fields beside ``data`` instead of in it, ``data`` as a string of JSON, a card wrapped in another object, books
as lists or as numbered objects, numbers and lists where text belongs, absent or null fields. Unknown keys and
``extensions`` are never touched: they stay in ``document`` and are written back.

Packages on the index were looked at first and are not used: ``tavern-card`` 0.1.1 reads V1 to V3 from JSON and from the
tEXt and zTXt chunks of a PNG only, ``card-forge`` 0.4.0 what Pillow finds in a PNG. Neither reads CHARX, iTXt, WEBP, a
zip behind a picture, Agnai or Pygmalion, neither keeps what it does not know, and both refuse a field of a wrong type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from charforge.character.cards.lorebook import REMEDY, Entry, book_entries, is_lorebook
from charforge.character.cleaning import encodable
from charforge.character.json_text import parse_json
from charforge.errors import InputError

V1_FIELDS = ("name", "description", "personality", "scenario", "first_mes", "mes_example")
_ELSEWHERE = {
    "name": ("char_name", "displayName"),
    "description": ("char_persona",),
    "scenario": ("world_scenario",),
    "first_mes": ("char_greeting", "greeting", "firstMessage", "first_message"),
    "mes_example": ("example_dialogue", "example_dialogs", "exampleMessage", "sampleChat"),
}
"""What programs before and beside the specification call a field (Pygmalion, TavernAI, RisuAI)."""
_WRAPPERS = ("character", "card", "char", "chara", "data")


@dataclass(frozen=True)
class Card:
    """What charforge uses of a card, and the whole ``document`` in the V3 shape ({spec, spec_version, data, ...}).

    ``unread`` are texts of the card that are no part of a character (field, text, why); ``remarks`` say what was odd
    about the file and what was made of it.
    """

    name: str
    description: str
    personality: str
    scenario: str
    first_mes: str
    mes_example: str
    creator: str
    entries: tuple[Entry, ...]
    document: dict[str, Any]
    nickname: str = ""
    system_prompt: str = ""
    unread: tuple[tuple[str, str, str], ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class CardFormat:
    """A format of cards: how it is recognised by its own keys, and how its data become those of the specification."""

    name: str
    recognised: Callable[[Mapping[str, Any]], bool]
    data: Callable[[Mapping[str, Any]], dict[str, Any]]


def _is_agnai(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("persona"), dict) and (
        value.get("kind") == "character" or bool({"sampleChat", "greeting", "culture"} & set(value))
    )


def _agnai_data(value: Mapping[str, Any]) -> dict[str, Any]:
    """Agnai's ``description`` is a note for readers of its gallery; who the character is stands under ``persona``."""
    attributes = value["persona"].get("attributes")
    lines = []
    for key, words in attributes.items() if isinstance(attributes, dict) else ():
        told = ", ".join(str(word) for word in words) if isinstance(words, list) else str(words)
        lines.append(told if key == "text" else f"{str(key).capitalize()}: {told}")
    if isinstance(value.get("appearance"), str) and value["appearance"].strip():
        lines.append(f"Appearance: {value['appearance'].strip()}")
    book = value.get("characterBook")
    insert = value["insert"] if isinstance(value.get("insert"), dict) else {}
    return {
        "name": value.get("name"),
        "description": "\n".join(lines),
        "personality": "",
        "scenario": value.get("scenario") or "",
        "first_mes": value.get("greeting") or "",
        "mes_example": value.get("sampleChat") or "",
        "creator_notes": value.get("description") or "",
        "system_prompt": value.get("systemPrompt") or "",
        "post_history_instructions": value.get("postHistoryInstructions") or "",
        "alternate_greetings": value.get("alternateGreetings") or [],
        "tags": value.get("tags") or [],
        "creator": value.get("creator") or "",
        "character_version": value.get("characterVersion") or "",
        "extensions": {
            **(value["extensions"] if isinstance(value.get("extensions"), dict) else {}),
            **({"depth_prompt": {"prompt": insert.get("prompt"), "depth": insert.get("depth")}} if insert else {}),
            "agnai": {"culture": value.get("culture"), "persona": value["persona"]},
        },
        **({"character_book": {"extensions": {}, "entries": _agnai_entries(book)}} if isinstance(book, dict) else {}),
    }  # fmt: skip


def _agnai_entries(book: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = book.get("entries") if isinstance(book.get("entries"), list) else []
    return [
        {
            "keys": row.get("keywords") or [], "content": row.get("entry") or "", "name": row.get("name") or "",
            "enabled": row.get("enabled", True), "insertion_order": row.get("weight") or 0,
            "priority": row.get("priority") or 0, "extensions": {},
        }
        for row in rows or []
        if isinstance(row, dict)
    ]  # fmt: skip


def _is_specified(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("data"), dict) and (
        str(value.get("spec", "")).startswith("chara_card") or _is_flat(value["data"]) or _is_flat(value)
    )


def _specified_data(value: Mapping[str, Any]) -> dict[str, Any]:
    """``data``, with what a program wrote beside it instead of in it."""
    beside = {key: value[key] for key in V1_FIELDS if key in value and not _is_text(value["data"].get(key))}
    return {**value["data"], **{key: text for key, text in beside.items() if _is_text(text)}}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_flat(value: Mapping[str, Any]) -> bool:
    """Whether the fields lie here: V1, TavernAI, Pygmalion."""
    # a lorebook has a name and a description too
    named = any(key in value for key in ("name", *_ELSEWHERE["name"])) and "entries" not in value
    return named and any(
        key in value and value[key] is not None and not isinstance(value[key], dict)
        for field in V1_FIELDS[1:]
        for key in (field, *_ELSEWHERE.get(field, ()))
    )


CARD_FORMATS = (
    CardFormat("Agnai character", _is_agnai, _agnai_data),
    CardFormat("Character Card V2 or V3", _is_specified, _specified_data),
    CardFormat("Character Card V1, TavernAI, Pygmalion", _is_flat, dict),
)


def looks_like_card(document: object) -> bool:
    """Whether a JSON file of any name is a card: a name and a description alone are in many files."""
    inside, _ = unwrapped(document)
    known = card_format(inside)
    if known is None or not isinstance(inside, dict):
        return False
    data = known.data(inside)
    said = [key for field in V1_FIELDS[2:] for key in (field, *_ELSEWHERE.get(field, ())) if _is_text(data.get(key))]
    return str(inside.get("spec", "")).startswith("chara_card") or known is CARD_FORMATS[0] or bool(said)


def card_format(document: object) -> CardFormat | None:
    """The format of a card's document, or None where it is no card."""
    if not isinstance(document, dict):
        return None
    return next((row for row in CARD_FORMATS if row.recognised(document)), None)


def unwrapped(document: object) -> tuple[object, tuple[str, ...]]:
    """The card inside objects and strings that programs put around it, and what was taken off."""
    remarks: tuple[str, ...] = ()
    for _ in range(3):
        if isinstance(document, str) and document.lstrip().startswith("{"):
            try:
                document = parse_json(document)
            except (ValueError, RecursionError):
                return document, remarks
            remarks = (*remarks, "is a card written as a string inside JSON")
        if not isinstance(document, dict):
            return document, remarks
        if isinstance(document.get("data"), str) and document["data"].lstrip().startswith("{"):
            try:
                document = {**document, "data": parse_json(document["data"])}
            except (ValueError, RecursionError):
                return document, remarks
            remarks = (*remarks, 'has its "data" as a string of JSON')
        if card_format(document) is not None:
            return document, remarks
        inner = next((key for key in _WRAPPERS if card_format(_opened(document.get(key))) is not None), None)
        if inner is None:
            return document, remarks
        document, remarks = document[inner], (*remarks, f'is wrapped in another object (under "{inner}")')
    return document, remarks


def _opened(value: object) -> object:
    return unwrapped(value)[0] if isinstance(value, str) else value


def parse_card(document: object, where: str) -> Card:
    """A card of any version. Raises InputError, with ``where`` as its subject, when it is none."""
    try:
        whole = _sound(document)
    except RecursionError:
        raise InputError(f"{where} is not a character card (nested too deeply): {REMEDY}") from None
    broken = ("holds half characters, which are left out",) if whole != document else ()
    document, remarks = unwrapped(whole)
    if not isinstance(document, dict):
        raise InputError(f"{where} is not a character card (not a JSON object): {REMEDY}")
    known = card_format(document)
    if known is None and is_lorebook(document):
        raise InputError(f"{where} is a lorebook and no character card: call it lorebook.json")
    if known is None:
        raise InputError(f"{where} is not a character card (no name, no description): {REMEDY}")
    data = known.data(document)
    # V1: the fields lie flat; what else lies there is kept beside them
    if known.name == CARD_FORMATS[1].name:
        document = {**document, "data": data}
    else:
        spec = {"spec": "chara_card_v2", "spec_version": "2.0"} if known is CARD_FORMATS[0] else {
            "spec": "chara_card_v1", "spec_version": "1.0",
        }  # fmt: skip
        document = {**spec, "data": data}
    odd: list[str] = []
    fields = {name: _field(data, name, odd) for name in V1_FIELDS}
    book = data.get("character_book")
    if book is not None and not isinstance(book, dict | list):
        odd.append(f'has a "character_book" that is no book ({type(book).__name__})')
    return Card(
        **fields,
        creator=_field(data, "creator", []),
        entries=book_entries(book if isinstance(book, dict) else {"entries": book} if isinstance(book, list) else {}),
        document=document,
        nickname=_field(data, "nickname", []),
        system_prompt=_field(data, "system_prompt", []),
        unread=_unread(data),
        remarks=(*broken, *remarks, *odd),
    )


def _sound(value: Any) -> Any:
    """The document without lone surrogates: what is written back must be text."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, list):
        return [_sound(item) for item in value]
    if isinstance(value, dict):
        return {encodable(str(key)): _sound(item) for key, item in value.items()}
    return value


def _field(data: Mapping[str, Any], name: str, odd: list[str]) -> str:
    """A field's text. A number is its text, a list of strings its lines; what else is there is told in ``odd``."""
    for key in (name, *_ELSEWHERE.get(name, ())):
        value = data.get(key)
        if value is None or value == "":
            continue
        if isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            odd.append(f"has a number as its {name}: taken as text")
            return str(value)
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            odd.append(f"has a list as its {name}: its lines were joined")
            return "\n".join(value)
        odd.append(f"has no text as its {name} ({type(value).__name__}): left out")
    return ""


def _unread(data: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Texts of a card that say nothing about who the character is, each with the reason."""
    instruction, note = "an instruction to the model", "a note for people who use the card"
    extensions = data["extensions"] if isinstance(data.get("extensions"), dict) else {}
    depth = extensions["depth_prompt"] if isinstance(extensions.get("depth_prompt"), dict) else {}
    found: list[tuple[str, Any, str]] = [
        (
            "scenario",
            next((data[k] for k in ("scenario", "world_scenario") if data.get(k)), ""),
            "a scene: only a base with a long context reads it",
        ),
        ("system_prompt", data.get("system_prompt"), f"{instruction}: only one with a long context reads it"),
        ("post_history_instructions", data.get("post_history_instructions"), instruction),
        ("depth_prompt", depth.get("prompt"), instruction),
        ("creator_notes", data.get("creator_notes"), note),
    ]
    for key in ("alternate_greetings", "group_only_greetings"):
        values = data.get(key)
        found += [
            (key, text, "a greeting answers nobody") for text in (values if isinstance(values, list) else [values])
        ]
    return tuple((name, text, why) for name, text, why in found if isinstance(text, str) and text.strip())
