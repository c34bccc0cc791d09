"""JSON and JSON Lines -> records with their places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from charforge.character.json_text import parse_json
from charforge.character.notes import Notes


@dataclass(frozen=True)
class Torn:
    """A line that is not JSON: its number, what the parser says, the line itself."""

    number: int
    reason: str
    text: str


@dataclass(frozen=True)
class Document:
    """What a JSON or JSON Lines file holds. ``records`` are (place in the file, value): ("3", {...}).

    A file that is one JSON array gives one record for each item ("item 3"); one that is a single value gives one.
    """

    file: str
    records: list[tuple[str, Any]] = field(default_factory=list)
    torn: list[Torn] = field(default_factory=list)

    @property
    def values(self) -> list[Any]:
        """The records without their places."""
        return [value for _, value in self.records]

    def objects(self, notes: Notes) -> Iterator[tuple[str, dict[str, Any]]]:
        """The records that are JSON objects; the others go into the ledger."""
        for where, value in self.records:
            if isinstance(value, dict):
                yield where, value
            else:
                notes.pass_over(self.file, where, "turn", str(value), "is no JSON object")

    def place(self, where: str) -> str:
        """A place in this file as problems and ledger name it: "chats/a.jsonl:3"."""
        return f"{self.file}:{where}" if where else self.file


def document(text: str, file: str) -> Document:
    """Line by line where every line is JSON, otherwise the file as one JSON value if it is one."""
    found = Document(file)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found.records.append((str(number), parse_json(line)))
        except (ValueError, RecursionError) as error:
            found.torn.append(Torn(number, getattr(error, "msg", "nested too deeply"), line))
    whole = _whole(text) if found.torn or _is_one_list(found) else None
    return Document(file, whole) if whole is not None else found


def _is_one_list(found: Document) -> bool:
    return len(found.records) == 1 and isinstance(found.records[0][1], list) and bool(found.records[0][1])


def _whole(text: str) -> list[tuple[str, Any]] | None:
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list):
        return [(f"item {number}", item) for number, item in enumerate(value, start=1)]
    return [("", value)]
