"""The macros of cards, by whitelist: nothing a card says is ever run."""

from __future__ import annotations

import re

from charforge.character.cards.address import without_address

_MACRO = re.compile(r"\{\{([^{}]*)\}\}")
_BARE = re.compile(r"<(bot|char|user)>", re.IGNORECASE)
_BARE_NAMES = {"bot": "char", "char": "char", "user": "user"}
_SILENT = {"original", "trim", "noop"}
_CHARACTER = {"char", "bot", "charname"}
_USER = {"user", "username"}
_YOU = "\0"
"""Stands for the user while a text is resolved: "\0's" becomes "your", and "\0 is" becomes "you are"."""
_VERBS = {
    "is": "are", "was": "were", "has": "have", "does": "do", "isn't": "aren't", "wasn't": "weren't",
    "hasn't": "haven't", "doesn't": "don't", "isn’t": "aren’t", "wasn’t": "weren’t", "hasn’t": "haven’t",
    "doesn’t": "don’t",
}  # fmt: skip
_ADVERBS = r"(?:(?:also|always|never|often|still|now|really|only|just|usually|sometimes|once)\s+)?"
_NO_VERBS = r"(?:always|sometimes|perhaps|as|us|his|hers|its|this|yes|plus|versus|besides|themselves|yourselves)\b"
_USER_OWNS = re.compile(rf"{_YOU}['’]s\b")
_USER_IS = re.compile(rf"{_YOU}(\s+{_ADVERBS})({'|'.join(_VERBS)})\b")
_STARTS = r"(?:\A|(?<=\n)|[.!?:;,—(*\"“]\s*|\b(?:and|but|or|that|when|if|while|because|as|since|before|after|until)\s+)"
_USER_ACTS = re.compile(rf"({_STARTS}){_YOU}(\s+{_ADVERBS})(?!{_NO_VERBS})([a-z]{{2,}}s)\b")
_USER_WHO = re.compile(rf"{_YOU}(,?\s+who\s+{_ADVERBS})({'|'.join(_VERBS)})\b")
_APART = rf"{_YOU}(,\s[^,.!?\n]{{1,80}},\s+{_ADVERBS})"
"""The user with what else it is: "\0, a young apprentice, lives here"."""
_USER_APART_IS = re.compile(rf"{_APART}({'|'.join(_VERBS)})\b")
_USER_APART_ACTS = re.compile(rf"{_APART}(?!{_NO_VERBS})([a-z]{{2,}}s)\b")
_BEGINS = re.compile(rf"(\A\W*?|[.!?。！？]['\"”’)*]*\s+[*\"“(]*|\n\W*?){_YOU}")


def resolved(text: str, name: str, user: str, unknown: set[str]) -> str:
    """``text`` with its macros replaced; names of macros that are not on the whitelist go into ``unknown``.

    ``{{char}}`` is ``name``, ``{{user}}`` is ``user``; of a random choice the first is taken, so that the same card
    gives the same text. Unknown macros are removed: they would be learned as words. Where ``user`` is "you", the
    sentence agrees with it: "{{user}}'s hat" is "your hat" and "{{user}} is late" is "you are late"; where
    it only calls the user it is left out: "Good morning, {{user}}." is "Good morning.".
    """
    if "{{" not in text and "<" not in text:
        return text.strip()
    text = _BARE.sub(lambda match: f"{{{{{_BARE_NAMES[match[1].lower()]}}}}}", text.replace(_YOU, ""))

    def one(match: re.Match[str]) -> str:
        word, _, rest = match[1].strip().partition(":")
        word = word.strip().lower()
        if word in _CHARACTER:
            return name
        if word in _USER:
            return _YOU if user == "you" else user
        if word in ("random", "pick"):
            return re.split(r"::|(?<!\\),", rest.removeprefix(":"))[0].strip()
        if word == "roll":
            # a throw of the die that is the same every time: its middle
            sides = re.search(r"d?(\d{1,6})\s*$", rest)
            return str((int(sides[1]) + 1) // 2) if sides else ""
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
    return _addressed(text, name).strip()


def _addressed(text: str, name: str) -> str:
    """Sentences about the user as sentences to the user, who has no name to be called by."""
    if _YOU not in text:
        return text
    text = without_address(text, _YOU, name)
    # still the mark: only what was a macro is put into the second person
    text = _USER_OWNS.sub(f"{_YOU}r", text)
    for plural in (_USER_IS, _USER_WHO, _USER_APART_IS):
        text = plural.sub(lambda m: f"{_YOU}{m[1]}{_VERBS[m[2]]}", text)
    text = _USER_APART_ACTS.sub(lambda m: f"{_YOU}{m[1]}{_without_s(m[2])}", text)
    text = _USER_ACTS.sub(lambda m: f"{m[1]}{_YOU}{m[2]}{_without_s(m[3])}", text)
    return _BEGINS.sub(r"\1You", text).replace(_YOU, "you")


def _without_s(verb: str) -> str:
    """The verb that goes with "you": "likes" -> "like", "watches" -> "watch", "tries" -> "try"."""
    if verb.endswith("ss"):
        return verb
    if verb.endswith("ies") and len(verb) > 4:
        return f"{verb[:-3]}y"
    return verb[:-2] if re.search(r"(?:ss|sh|ch|x|zz|o)es$", verb) else verb[:-1]
