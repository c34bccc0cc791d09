"""Word lists of the rules, written as running text; words as names of files, and as a terminal may show them."""

from __future__ import annotations

import re


def word_set(text: str) -> frozenset[str]:
    """The words of ``text`` as a set."""
    return frozenset(text.split())


def called(name: str, noun: str) -> str:
    """ "Wren, voxel person"; the name alone where nobody knows what it is."""
    return ", ".join(part for part in (name, noun) if part)


def file_stem(name: str) -> str:
    """A name as that of a file: "Mam the Cat" -> "mam-the-cat"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "character"


# controls but for tab and line feed, and what turns the direction of writing or breaks lines unseen: with these a text
# can move the cursor, change the window's title or the clipboard, or show another name than it has
_UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def printable(text: str) -> str:
    """Somebody's text as a terminal may show it: what a terminal would obey is spelled out (``\\x1b``)."""
    return _UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable_line(text: str) -> str:
    """The same in one line: a name cannot look like lines of ours."""
    return printable(" ".join(text.split()))
