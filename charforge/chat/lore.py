"""Lorebook entries that come into a conversation when their keys occur in it, by the rules of Character Card V3.

What a card says is data: keys and patterns of a hostile card cost a bounded time and run nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from charforge.character.cards.macros import resolved

LONGEST_KEY, LONGEST_TEXT, MOST_ENTRIES = 500, 20_000, 5_000
"""Characters of a key and of what is looked through, and entries of a book, that are considered."""
SECONDS_A_PATTERN = 0.02
LORE_SHARE = 16
"""Of one in so many tokens of a context, entries may take at most."""
ROUNDS = 3
"""How often the texts of entries that came in are looked through for further keys, where the book asks for it."""


@dataclass(frozen=True)
class Entry:
    """One entry. Without ``constant`` it needs one of its ``keys``, and with ``secondary`` one of those as well."""

    keys: tuple[str, ...]
    content: str
    secondary: tuple[str, ...] = ()
    constant: bool = False
    use_regex: bool = False
    case_sensitive: bool = False
    order: float = 0.0
    priority: float = 0.0


@dataclass(frozen=True)
class Lorebook:
    """Entries, how many of the latest messages are looked through for keys, and tokens at most (None: no own limit)."""

    entries: tuple[Entry, ...] = ()
    scan_depth: int = 4
    token_budget: int | None = None
    recursive: bool = False


def card_lorebook(card: Mapping[str, Any], name: str) -> Lorebook:
    """The book of a card's document, macros resolved for the character ``name``. What is malformed is left out."""
    data = card.get("data")
    book = data.get("character_book") if isinstance(data, dict) else None
    rows = book.get("entries") if isinstance(book, dict) else None
    if not isinstance(book, dict) or not isinstance(rows, list):
        return Lorebook()
    entries = [entry for row in rows[:MOST_ENTRIES] if (entry := _entry(row, name)) is not None]
    depth, budget = book.get("scan_depth"), book.get("token_budget")
    return Lorebook(
        tuple(entries),
        depth if type(depth) is int and 0 <= depth <= 1000 else Lorebook.scan_depth,
        budget if type(budget) is int and budget >= 0 else None,
        book.get("recursive_scanning") is True,
    )


def _entry(row: Any, name: str) -> Entry | None:
    if not isinstance(row, dict) or not isinstance(row.get("content"), str) or row.get("enabled") is False:
        return None
    content = resolved(row["content"], name, "you", set()).strip()
    if not content:
        return None
    return Entry(
        keys=_keys(row.get("keys")),
        content=content,
        secondary=_keys(row.get("secondary_keys")) if row.get("selective") is True else (),
        constant=row.get("constant") is True,
        use_regex=row.get("use_regex") is True,
        case_sensitive=row.get("case_sensitive") is True,
        order=_number(row.get("insertion_order")),
        priority=_number(row.get("priority")),
    )


def _keys(value: Any) -> tuple[str, ...]:
    keys = value if isinstance(value, list) else []
    return tuple(key.strip() for key in keys if isinstance(key, str) and 0 < len(key.strip()) <= LONGEST_KEY)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value == value and abs(value) < 1e9 else 0.0


def called_for(book: Lorebook, said: Sequence[str], count: Callable[[str], int], room: int) -> list[str]:
    """The contents of the entries that ``said`` (the messages, latest last) calls for, in the order of the book.

    ``count`` says how many tokens a text is; at most ``room`` of them come, and no more than the book's own budget.
    Where that does not suffice, entries of higher priority come first, then those of lower insertion order.
    """
    text = "\n".join(said[-book.scan_depth :] if book.scan_depth else [])[-LONGEST_TEXT:]
    called = [entry for entry in book.entries if entry.constant or _is_called(entry, text)]
    for _ in range(ROUNDS if book.recursive else 0):
        further = "\n".join(entry.content for entry in called)[-LONGEST_TEXT:]
        more = [entry for entry in book.entries if entry not in called and _is_called(entry, further)]
        if not more:
            break
        called += more
    left = room if book.token_budget is None else min(room, book.token_budget)
    kept = []
    for entry in sorted(called, key=lambda entry: (-entry.priority, entry.order)):
        tokens = count(entry.content)
        if tokens <= left:
            kept.append(entry)
            left -= tokens
    return [entry.content for entry in sorted(kept, key=lambda entry: entry.order)]


def _is_called(entry: Entry, text: str) -> bool:
    def occurs(keys: tuple[str, ...]) -> bool:
        return any(_occurs(key, text, entry.use_regex, entry.case_sensitive) for key in keys)

    return occurs(entry.keys) and (not entry.secondary or occurs(entry.secondary))


def _occurs(key: str, text: str, as_pattern: bool, case_sensitive: bool) -> bool:
    if not as_pattern:
        return key in text if case_sensitive else key.lower() in text.lower()
    pattern, flags = key, 0 if case_sensitive else regex.IGNORECASE
    if key.startswith("/") and key.rfind("/") > 0:
        pattern, letters = key[1 : key.rfind("/")], key[key.rfind("/") + 1 :]
        flags = regex.IGNORECASE if "i" in letters else 0
    try:
        return regex.search(pattern, text, flags=flags, timeout=SECONDS_A_PATTERN) is not None
    except (regex.error, TimeoutError, RecursionError, OverflowError):
        # a pattern that is none, or that takes for ever, calls for nothing
        return False
