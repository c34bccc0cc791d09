"""Lorebooks of all front ends -> entries -> facts about the character and lore about others.

Layouts: ``character_book`` and ``lorebook_v3`` of the card specifications, world info of SillyTavern, NovelAI
(``lorebookVersion``), Agnai (``kind: memory``), RisuAI (``type: risu`` and ``risuModule``), and KoboldAI's world info.
They differ in what they call things; entries are read by whatever name is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from charforge.character.attributes import REMEDY as AS_ATTRIBUTE
from charforge.character.attributes import UNREAD, attributes_as_lines
from charforge.character.cards.macros import resolved
from charforge.character.character import Lore
from charforge.character.cleaning import cleaned, one_line, tidied
from charforge.character.json_text import parse_json
from charforge.character.notes import Notes
from charforge.character.profile import key_values, sentences
from charforge.character.speakers import Names
from charforge.errors import InputError

REMEDY = "export it again from the program it comes from"
_CONTENTS = ("content", "text", "entry", "value")
_KEYS = ("keys", "key", "keywords")
_TITLES = ("name", "comment", "displayName", "title", "memo")
_BRACKETED = re.compile(r"^\[\s*([^\[\]:：]{1,60}?)\s*[:：]\s*([^\[\]]+?)\s*\]$")
_PRONOUN = re.compile(r"^(?:He|She|It|They|His|Her|Hers|Its|Their|This|That|These|Those)\b")
_NAME_KEYS = ("name", "full name")


@dataclass(frozen=True)
class Entry:
    """One entry of a lorebook. ``content`` has no decorators; ``place`` says where in the book it stands."""

    content: str
    keys: tuple[str, ...]
    enabled: bool
    title: str = ""
    place: str = ""


@dataclass
class Told:
    """What a lorebook says: ``facts`` about the character or with their own subject, ``lore`` about others."""

    facts: list[str] = field(default_factory=list)
    lore: list[Lore] = field(default_factory=list)


def parse_lorebook(document: object, where: str) -> tuple[Entry, ...]:
    """The entries of a stand-alone lorebook. Raises InputError, with ``where`` as its subject, when it is none."""
    rows = _rows(document)
    if rows is None:
        raise InputError(f"{where} is not a lorebook (no entries): {REMEDY}")
    return parse_entries(rows)


def is_lorebook(document: object) -> bool:
    """Whether a JSON document is a lorebook on its own."""
    rows = _rows(document)
    return rows is not None and (not rows or any(_content(row) is not None for _, row in rows))


def _rows(document: object) -> list[tuple[str, Any]] | None:
    """(place, row) of a book in any layout."""
    if not isinstance(document, dict):
        return None
    if document.get("type") == "risu" and isinstance(document.get("data"), list):
        return _numbered(document["data"])
    if document.get("type") == "risuModule":
        inner = document["module"] if isinstance(document.get("module"), dict) else document
        return _numbered(inner["lorebook"] if isinstance(inner.get("lorebook"), list) else [])
    for book in (document, document.get("data"), document.get("lorebook"), document.get("character_book")):
        if isinstance(book, dict) and isinstance(book.get("entries"), list | dict):
            return _numbered(book["entries"])
    return None


def _numbered(rows: list[Any] | dict[str, Any]) -> list[tuple[str, Any]]:
    if isinstance(rows, dict):
        return [(f"entry {one_line(key)}", row) for key, row in rows.items()]
    return [(f"entry {number}", row) for number, row in enumerate(rows, start=1)]


def parse_entries(rows: list[tuple[str, Any]]) -> tuple[Entry, ...]:
    """Entries in their own order; a row without content is passed over."""
    entries = []
    for place, row in rows:
        content = _content(row)
        if content is None:
            continue
        entries.append(Entry(without_decorators(content), _keys(row), _enabled(row), _title(row), tidied(place)))
    return tuple(entries)


def book_entries(book: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The entries of a book that a card carries."""
    rows = _rows(dict(book))
    return parse_entries(rows) if rows is not None else ()


def _content(row: Any) -> str | None:
    if not isinstance(row, dict):
        return None
    return next((row[key] for key in _CONTENTS if isinstance(row.get(key), str)), None)


def _keys(row: Mapping[str, Any]) -> tuple[str, ...]:
    for name in _KEYS:
        value = row.get(name)
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        if isinstance(value, list):
            return tuple(part.strip() for part in value if isinstance(part, str) and part.strip())
    return ()


def _title(row: Mapping[str, Any]) -> str:
    return next((row[key].strip() for key in _TITLES if isinstance(row.get(key), str) and row[key].strip()), "")


def _enabled(row: Mapping[str, Any]) -> bool:
    off = row.get("disable") is True or row.get("widisabled") is True or row.get("mode") == "folder"
    return row.get("enabled") is not False and not off


def without_decorators(content: str) -> str:
    """The content of an entry without the ``@@depth 4`` lines (and ``@@@`` fallbacks) before it."""
    lines = content.split("\n")
    while lines and lines[0].lstrip().startswith("@@"):
        lines.pop(0)
    return "\n".join(lines).strip()


# what entries say


def told_by(entries: tuple[Entry, ...], names: Names, file: str, notes: Notes) -> Told:
    """The sentences of the entries that are switched on, each with its subject; all others are in the ledger."""
    told, unknown = Told(), set[str]()
    for entry in entries:
        if not entry.enabled:
            if entry.content:
                notes.pass_over(file, entry.place, "sentence", entry.content, "its entry is switched off")
            continue
        clean = cleaned(entry.content)
        if clean.removed:
            notes.change(file, entry.place, "sentence", f"{', '.join(clean.removed)} removed")
        text = resolved(clean.text, names.name, "you", unknown)
        if entry.content and not text:
            notes.pass_over(file, entry.place, "sentence", entry.content, "no words are left of it")
        _tell(entry, text, names, file, notes, told)
    if unknown:
        words = ", ".join(f"{{{{{word}}}}}" for word in sorted(unknown)[:5])
        notes.warn(file, f"has macros that are not known: {words}", "they were left out")
    return told


def _tell(entry: Entry, text: str, names: Names, file: str, notes: Notes, told: Told) -> None:
    subject = tidied(entry.title) or next((tidied(key) for key in entry.keys if not key.startswith("/")), "")
    subject = resolved(subject, names.name, "you", set())
    place = f"{file}:{entry.place}"
    listed = attributes_as_lines(text)
    for piece in listed.unread:
        notes.pass_over(file, entry.place, "sentence", piece, UNREAD, AS_ATTRIBUTE)
    pieces = list(_pieces(listed.text))
    named = next((value for key, value in pieces if key.lower() in _NAME_KEYS), "")
    subject = named or subject
    if pieces and names.may_be_character(subject):
        remedy = f"if it is {names.name}, write aliases: {subject} into character.md"
        notes.warn(
            place, f"is about {subject!r}, which may be {names.name} or somebody else: taken for somebody else", remedy
        )
    known = False
    for key, value in pieces:
        mine = names.is_character(subject) if subject else False
        if key:
            if key.lower() in _NAME_KEYS and value == named:
                # the subject itself
                notes.take(file, "sentence")
            elif mine:
                told.facts.append(f"{key}: {value}")
                notes.take(file, "sentence")
            elif subject:
                told.lore.append(Lore(subject, _of_key(subject, key, value), place))
                notes.take(file, "sentence")
            else:
                remedy = "give the entry a name or a key"
                notes.pass_over(
                    file, entry.place, "sentence", f"{key}: {value}", "does not say whom it is about", remedy
                )
            continue
        bracketed = _BRACKETED.match(value)
        if bracketed:
            about, rest = bracketed[1], bracketed[2]
            if names.is_character(about):
                told.facts.append(f"Description: {rest}")
            else:
                told.lore.append(Lore(about, f"{about}: {rest}.", place))
            notes.take(file, "sentence")
            continue
        if _PRONOUN.match(value) and not known and not mine:
            remedy = "begin the sentence with the name"
            notes.pass_over(file, entry.place, "sentence", value, "does not say whom it is about", remedy)
            continue
        known = True
        if mine or not subject or _begins_with_name(value, names):
            told.facts.append(_by_name(value, names) if mine else value)
        else:
            told.lore.append(Lore(subject, value, place))
        notes.take(file, "sentence")


def _begins_with_name(sentence: str, names: Names) -> bool:
    """Whether a sentence in an entry about something else is about the character all the same."""
    return bool(names.subject_of(sentence))


def _by_name(sentence: str, names: Names) -> str:
    """A fact stands alone: its subject is the name, not a pronoun."""
    sentence = re.sub(r"^(?:He|She)\b", names.name, sentence)
    return re.sub(r"^(?:His|Her)\b(?=\s+[a-z])", f"{names.name}'s", sentence)


def _of_key(subject: str, key: str, value: str) -> str:
    """ "Age: 81" of Ottilie -> "Ottilie's age is 81."."""
    lowered = key if key.isupper() else key.lower()
    be = "are" if lowered.endswith("s") and not lowered.endswith("ss") and lowered != "species" else "is"
    value = value.rstrip(".。")
    return f"{subject}'s {lowered} {be} {value}."


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """(key, value) of lines that name what they say, ("", sentence) of the others."""
    as_json = _object(text)
    if as_json is not None:
        # the words inside were written as JSON once more
        yield from ((tidied(str(key)), tidied(_listed(value))) for key, value in as_json.items() if _listed(value))
        return
    for line in text.split("\n"):
        bare = line.strip().lstrip("-*• ").strip()
        if not bare:
            continue
        pairs = key_values(bare)
        if pairs and not bare.startswith("["):
            yield pairs[0]
        else:
            yield from (("", sentence) for sentence in ([bare] if _BRACKETED.match(bare) else sentences(bare)))


def _object(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _listed(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value if isinstance(item, str | int | float))
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
