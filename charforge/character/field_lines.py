"""Lines "Key: value" among the prose of character.md: what is no sentence becomes a fact, and never runs into the next.

A line is a field where it begins a paragraph or follows another field, its key is a name for something ("Age", "Best
friend"), and its value is no sentence. Everything else is prose as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from charforge.full_stops import ended
from charforge.words import word_set

LONGEST_VALUE = 12
"""Words."""
_SENTENCE = re.compile(r"[!?…。！？]|\.\s|[\"“”「」]|(?:^|\s)(?:he|she|they|you|it|i)(?:['’]\w+)?\s", re.I)
_NO_KEYS = word_set("""
    note notes nb remember warning important caution example examples e.g i.e tip hint ps p.s rule rules secretly
    plus also but and user human you me char character assistant bot
""")
_SPEAKING = re.compile(r"\b(?:says?|said|asks?|thinks?|loves?|knows?|is|are|was|has|have)$", re.I)
_LONG_KEY = re.compile(r"^\w+ of \w+$|^(?:least|most|best|worst|biggest|greatest|favou?rite)\s\w+\s\w+$", re.I)
_PRONOUN = re.compile(r"^(?:he|she|they|it|i|we|you|this|that|there|one|two|three|four|five|six)\b", re.I)


@dataclass(frozen=True)
class FieldLine:
    """A line of a section: its words, and its key and value where it is a field."""

    words: str
    key: str = ""
    value: str = ""


def field_lines(lines: Sequence[tuple[str, tuple[str, str] | None]], own: Collection[str]) -> list[FieldLine]:
    """The lines that have words. ``lines`` are words, and key and value of what has their form; the value of a key in
    ``own`` ("name", "voice") may be prose.
    """
    found: list[FieldLine] = []
    begins = after_empty = True
    for words, pair in lines:
        if not words:
            begins = after_empty = True
            continue
        last = found[-1] if found else FieldLine("")
        if last.key and last.value.endswith(",") and not after_empty and pair is None:
            found[-1] = FieldLine(f"{last.words} {words}", last.key, f"{last.value} {words}")
            continue
        field = pair is not None and begins and _is_field(*pair, own)
        found.append(FieldLine(words, *(pair if pair and field else ())))
        begins, after_empty = field or (ended(words) == words and words[-1] != ","), False
    return found


def _is_field(key: str, value: str, own: Collection[str]) -> bool:
    if key.lower() in own:
        return True
    named = key.lower() not in _NO_KEYS and not _PRONOUN.match(key) and not _SPEAKING.search(key)
    short = (len(key.split()) <= 2 or _LONG_KEY.search(key) is not None) and len(value.split()) <= LONGEST_VALUE
    return named and short and not _SENTENCE.search(value)


def prose_of(lines: Iterable[FieldLine]) -> str:
    """Lines as one run of text; a field ends with a mark, as a sentence does."""
    return " ".join(" ".join(ended(line.words) if line.key else line.words for line in lines).split())
