"""Word lists of the rules, written as running text, and words as names of files."""

from __future__ import annotations

import re


def word_set(text: str) -> frozenset[str]:
    """The words of ``text`` as a set."""
    return frozenset(text.split())


def file_stem(name: str) -> str:
    """A name as that of a file: "Mam the Cat" -> "mam-the-cat"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "character"
