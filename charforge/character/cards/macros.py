"""The macros of cards, by whitelist: nothing a card says is ever run."""

from __future__ import annotations

import re

_MACRO = re.compile(r"\{\{([^{}]*)\}\}")
_BARE = {"<bot>": "char", "<char>": "char", "<user>": "user"}
_SILENT = {"original", "trim", "noop"}


def resolved(text: str, name: str, user: str, unknown: set[str]) -> str:
    """``text`` with its macros replaced; names of macros that are not on the whitelist go into ``unknown``.

    ``{{char}}`` is ``name``, ``{{user}}`` is ``user``; of a random choice the first is taken, so that the same card
    gives the same text. Unknown macros are removed: they would be learned as words.
    """
    text = re.sub(r"<(?:bot|char|user)>", lambda match: f"{{{{{_BARE[match[0].lower()]}}}}}", text, flags=re.IGNORECASE)

    def one(match: re.Match[str]) -> str:
        word, _, rest = match[1].strip().partition(":")
        word = word.strip().lower()
        if word == "char":
            return name
        if word == "user":
            return user
        if word in ("random", "pick"):
            return re.split(r"::|(?<!\\),", rest.removeprefix(":"))[0].strip()
        if word == "newline":
            return "\n"
        if word in ("reverse", "comment", "hidden_key") or word.startswith("//") or word in _SILENT:
            return ""
        unknown.add(word or "empty")
        return ""

    # a macro may stand inside another one, twice at most in cards that people write
    for _ in range(3):
        replaced = _MACRO.sub(one, text)
        if replaced == text:
            break
        text = replaced
    return text.strip()
