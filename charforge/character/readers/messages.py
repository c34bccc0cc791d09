"""Dialogues as records: our own ``turns``, OpenAI ``messages``, and lists of messages without a wrapper."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charforge.character.character import Dialogue, Voice
from charforge.character.lines import Line, dialogue, place_parts, spoken, tell_macros
from charforge.character.notes import Notes
from charforge.character.picture_names import image_name, is_elsewhere
from charforge.character.readers.documents import Document
from charforge.character.speakers import Names

SYSTEM_ROLES = frozenset({"system", "developer"})
TOOL_ROLES = frozenset({"tool", "function", "ipython", "observation", "tool_call", "tool_response", "function_call"})
_KEYS = frozenset({
    "role", "text", "content", "image", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio",
    "annotations", "reasoning", "reasoning_content", "weight", "id", "timestamp",
})  # fmt: skip
_REASONING = ("reasoning", "reasoning_content")


@dataclass(frozen=True)
class Conversations:
    """What a reader of conversations found.

    ``told`` are texts that tell a model who it is (place, text): system prompts, the memory of a story. ``book`` is a
    lorebook that lay in the same file, as its own document.
    """

    dialogues: tuple[Dialogue, ...] = ()
    told: tuple[tuple[str, str], ...] = ()
    book: Any = None
    strict: bool = False
    """Whether the user wrote it by hand, so that a picture that is not there is an error."""


def is_message(value: Any) -> bool:
    """Whether a record is one message: somebody's role with words."""
    return isinstance(value, dict) and isinstance(value.get("role"), str) and ("content" in value or "text" in value)


def has_own_turns(values: Sequence[Any]) -> bool:
    """``{"turns": [...]}``"""
    return any(isinstance(value, dict) and isinstance(value.get("turns"), list) for value in values)


def has_messages(values: Sequence[Any]) -> bool:
    """``{"messages": [{"role": ..., "content": ...}]}``"""
    return any(
        isinstance(value, dict) and isinstance(value.get("messages"), list) and any(map(is_message, value["messages"]))
        for value in values
    )


def has_lists_of_messages(values: Sequence[Any]) -> bool:
    """Records that are messages themselves, or lists of messages."""
    return bool(values) and all(
        is_message(value) or (isinstance(value, list) and value and all(map(is_message, value))) for value in values
    )


def read_records(found: Document, names: Names, notes: Notes, strict: bool = True) -> Conversations:
    """A dialogue a record, ``{"turns": [...]}`` or ``{"messages": [...]}``. Bad records become problems.

    ``strict``: see ``lines.dialogue``.
    """
    dialogues: list[Dialogue] = []
    told: list[tuple[str, str]] = []
    for torn in found.torn:
        where = str(torn.number)
        notes.refuse(found.place(where), f"is not JSON ({torn.reason})", "write one JSON object a line")
        notes.pass_over(found.file, where, "turn", torn.text, "is not JSON")
    for where, record in found.records:
        place = found.place(where)
        turns = record.get("turns", record.get("messages")) if isinstance(record, dict) else None
        if not isinstance(turns, list):
            remedy = 'write {"turns": [{"role": "user", "text": "..."}, ...]}'
            notes.refuse(place, 'has no list "turns"', remedy)
            notes.pass_over(found.file, where, "turn", _written(record), 'has no list "turns"')
            continue
        made, says = from_records(turns, place, names, notes, strict)
        dialogues += [made] if made is not None else []
        told += says
    return Conversations(tuple(dialogues), tuple(told), strict=strict)


def read_lists(found: Document, names: Names, notes: Notes) -> Conversations:
    """Messages without a wrapper: the whole file is one conversation, or every record is one."""
    lists = [(where, value) for where, value in found.records if isinstance(value, list)]
    if not lists:
        lists = [("", found.values)]
    wrapped = [(where, {"messages": value}) for where, value in lists]
    return read_records(Document(found.file, wrapped, found.torn), names, notes)


def from_records(
    records: Sequence[Any], place: str, names: Names, notes: Notes, strict: bool
) -> tuple[Dialogue | None, list[tuple[str, str]]]:
    """A dialogue from ``{"role", "text" or "content", "image"?}`` records, and the system texts among them.

    None in place of the dialogue when it is a problem. Words of tools and of others are never the character's.
    """
    lines: list[Line] = []
    told: list[tuple[str, str]] = []
    unknown: set[str] = set()
    for position, record in enumerate(records, start=1):
        line = _line(record, f"turn {position}", place, names, notes, told, strict)
        if line is None:
            continue
        if isinstance(line, _Refused):
            for skipped in records:
                notes.pass_over(*place_parts(place), "turn", _written(skipped), line.reason)
            return None, []
        notes.hear(line.voice, line.name)
        clean = spoken(line, names, notes, unknown) if line.text else line
        lines += [clean] if clean is not None else []
    tell_macros(lines, unknown, notes)
    return dialogue(lines, place, notes, strict), told


@dataclass(frozen=True)
class _Refused:
    """A record that makes its whole dialogue useless."""

    reason: str


def _line(
    record: Any, where: str, place: str, names: Names, notes: Notes, told: list[tuple[str, str]], strict: bool
) -> Line | _Refused | None:
    """The line of one record; None when it holds no words of a dialogue."""

    def refused(problem: str, remedy: str) -> _Refused:
        notes.refuse(place, problem, remedy)
        return _Refused(problem)

    if not isinstance(record, dict) or not isinstance(record.get("role"), str):
        return refused(f"{where} has no role", 'give it "role": "user" or "role": "character"')
    role_word = record["role"].strip().casefold()
    text, image = _content(record, place, notes)
    if role_word in SYSTEM_ROLES:
        told += [(place, text)] if text else []
        return None
    if role_word in TOOL_ROLES:
        notes.pass_over(*place_parts(place), "turn", text or _written(record), "a tool says it")
        return None
    role = names.role_of(record["role"])
    if role is None and not strict and text:
        return Line(place, "other", record["role"].strip(), text.strip(), image)
    if role is None:
        return refused(f"{where} has the role {record['role']!r}", 'use "user" or "character"')
    for key in _REASONING:
        if isinstance(record.get(key), str) and record[key].strip():
            notes.pass_over(*place_parts(place), "field", record[key], "reasoning is not said")
    ignored = sorted(set(record) - _KEYS)
    if ignored:
        notes.warn(
            place, f"{where} has keys that are not read: {', '.join(ignored)}", "a turn has role, text and image"
        )
    if not text and (record.get("tool_calls") or record.get("function_call")):
        call = _written(record.get("tool_calls") or record.get("function_call"))
        notes.pass_over(*place_parts(place), "turn", call, "a call of a tool, not words")
        return None
    if text is None:
        return refused(f"{where} has no text", 'give it "text": "..."')
    called = record.get("name") if isinstance(record.get("name"), str) else ""
    voice: Voice = role
    if role == "character" and called and names.role_of(called) != "character":
        voice = "other"
    return Line(place, voice, called or (names.name if role == "character" else "the user"), text.strip(), image)


def _content(record: Mapping[str, Any], place: str, notes: Notes) -> tuple[str | None, str | None]:
    """Text and picture of one record; OpenAI's list of content parts included."""
    value = record.get("text", record.get("content"))
    image = _image(record.get("image"), place, notes)
    if isinstance(value, str):
        return value, image
    if not isinstance(value, list):
        return None, image
    texts: list[str] = []
    for part in value:
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, dict):
            notes.pass_over(*place_parts(place), "turn", _written(part), "is no part of a message")
            continue
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        url = part.get("image_url", part.get("image"))
        url = url.get("url") if isinstance(url, dict) else url
        if isinstance(url, str):
            image = _image(url, place, notes) or image
        elif not isinstance(part.get("text"), str):
            # an embedded file would fill the ledger
            notes.pass_over(
                *place_parts(place), "turn", _written(part)[:200], f"a part of the type {part.get('type')!r}"
            )
    return "\n".join(texts), image


def _image(value: object, place: str, notes: Notes) -> str | None:
    """The name of a picture of the folder; what lies elsewhere is told and left out."""
    if isinstance(value, str) and is_elsewhere(value):
        embedded = value.strip().lower().startswith("data:")
        what = "holds an embedded picture" if embedded else "names a picture on the web, which is not fetched"
        remedy = "save the picture into images/ and give its name there" if embedded else "save it into images/"
        notes.warn(place, what, remedy)
        told = f"{value[:60]}…" if len(value) > 60 else value
        notes.pass_over(*place_parts(place), "picture", told, what, remedy)
        return None
    return image_name(value)


def _written(value: Any) -> str:
    """A record as its file may have it, for the ledger."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown)"
