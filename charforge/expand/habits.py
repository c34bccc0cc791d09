"""What a voice says again and again: how it begins, and how it calls the one it talks to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from charforge.words import word_set

FEWEST = 3
"""Replies that must share a habit; one in ten of them where there are many."""

_NO_ADDRESS = word_set("""
    too though then please again yes no indeed either right say now well so first too instead perhaps maybe
    anyway however naturally certainly obviously usually sometimes always never today tonight tomorrow here there
""")


@dataclass(frozen=True)
class Habits:
    """``opening``: "By my left spanner"; ``address``: "apprentice". Empty where the voice has none."""

    opening: str = ""
    address: str = ""


def habits(replies: Sequence[str]) -> Habits:
    """The habits that enough of the replies show."""
    least = max(FEWEST, len(replies) / 10)
    return Habits(_commonest(map(_openings, replies), least), _commonest(map(_addresses, replies), least))


def voiced(line: str, own: Habits, opened: bool) -> str:
    """A line said with the habits: "here I am" -> "By my left spanner, here I am, apprentice."."""
    words = f"{own.opening}, {line}" if opened and own.opening else line
    words = f"{words}, {own.address}" if own.address else words
    return f"{words[0].upper()}{words[1:]}."


def _openings(reply: str) -> set[str]:
    """Two to five words before the first comma of a sentence."""
    return set(re.findall(r"(?:^|(?<=[.!?]\s))([A-Z][\w']*(?: [\w']+){1,4})(?=,)", reply))


def _addresses(reply: str) -> set[str]:
    """Single words between commas, or between a comma and the end of a sentence."""
    return {word for word in re.findall(r", ([a-z][a-z'-]{2,})(?=[,.!?;:])", reply) if word not in _NO_ADDRESS}


def _commonest(found: Iterable[set[str]], least: float) -> str:
    counts = Counter(phrase for phrases in found for phrase in sorted(phrases))
    phrase, count = counts.most_common(1)[0] if counts else ("", 0)
    return phrase if count >= least else ""
