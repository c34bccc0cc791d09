"""The ledger of reading: what was taken from a user's files, what was passed over, where, and why.

A reader returns its entries beside what it read; nothing is kept anywhere else. Three kinds of entries:

- ``taken(file, kind, count)``: ``count`` things of one kind from one file are in the character.
- ``changed(file, place, kind, how)``: of those, this one was changed first ("turned upright", "reasoning removed").
- ``passed_over(file, place, kind, text, reason, remedy)``: one thing that is not in the character, with the words
  themselves (or the file's name), the reason, and what the user could do about it where there is something to do.

``Ledger(entries)`` joins them: ``ledger + other``, ``ledger.counts()`` (one row for each file and kind),
``ledger.passed_over`` and ``ledger.as_json()`` (``{"counts": [...], "passed_over": [...], "changed": [...]}``, what
``charforge check --json`` shows under ``ledger`` and ``charforge expand`` writes beside the pairs).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from charforge.character.cleaning import encodable

Kind = Literal["turn", "fact", "sentence", "picture", "caption", "field", "file"]
"""``field`` is a part of a card, such as its description; ``sentence`` a sentence of prose or of a lorebook entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger. ``file`` is relative to the character folder; ``place`` is a line or part of it.

    ``text`` holds the words that were passed over, whole, and is empty for what was taken. ``reason`` is a phrase for
    a person; for what was taken it says how it was changed, or nothing.
    """

    file: str
    place: str
    kind: Kind
    taken: bool
    text: str = ""
    reason: str = ""
    remedy: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Count:
    """How many things of one kind a file gave, and how many of it were passed over."""

    file: str
    kind: Kind
    taken: int
    passed_over: int


@dataclass(frozen=True)
class Ledger:
    """All entries of one reading, in the order in which they were made."""

    entries: tuple[Entry, ...] = ()

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(self.entries + other.entries)

    @property
    def passed_over(self) -> tuple[Entry, ...]:
        """The entries for what is not in the character."""
        return tuple(entry for entry in self.entries if not entry.taken)

    def counts(self) -> list[Count]:
        """One row for each file and kind, in the order in which they first occur."""
        sums: dict[tuple[str, Kind], list[int]] = {}
        for entry in self.entries:
            row = sums.setdefault((entry.file, entry.kind), [0, 0])
            # a reading that was changed is told again beside its count, and counted once
            row[0 if entry.taken else 1] += 0 if entry.taken and entry.reason else entry.count
        return [Count(file, kind, *row) for (file, kind), row in sums.items()]

    def as_json(self) -> dict[str, Any]:
        """Counts first, then every thing that was passed over, then what was taken but changed."""
        return {
            "counts": [
                {"file": row.file, "kind": row.kind, "taken": row.taken, "passed_over": row.passed_over}
                for row in self.counts()
            ],
            "passed_over": [_row(entry) for entry in self.entries if not entry.taken],
            "changed": [_row(entry) for entry in self.entries if entry.taken and entry.reason],
        }


def taken(file: str, kind: Kind, count: int = 1) -> Entry:
    """``count`` things of ``kind`` from ``file`` are in the character."""
    return Entry(file, "", kind, True, count=count)


def changed(file: str, place: str, kind: Kind, how: str, count: int = 1) -> Entry:
    """Of what was taken (and is counted by ``taken``), ``count`` things were changed: ``how`` says in what way."""
    return Entry(file, encodable(place), kind, True, reason=encodable(how), count=count)


def passed_over(file: str, place: str, kind: Kind, text: str, reason: str, remedy: str = "") -> Entry:
    """One thing that is not in the character: its words or name, why not, and what to do about it."""
    return Entry(file, encodable(place), kind, False, encodable(text), encodable(reason), encodable(remedy))


def joined(ledgers: Iterable[Ledger]) -> Ledger:
    """Several readings as one."""
    return Ledger(tuple(entry for ledger in ledgers for entry in ledger.entries))


def _row(entry: Entry) -> dict[str, Any]:
    row = {"file": entry.file, "place": entry.place, "kind": entry.kind, "text": entry.text, "reason": entry.reason}
    row |= {"remedy": entry.remedy} if entry.remedy else {}
    return row | ({"count": entry.count} if entry.count != 1 else {})
