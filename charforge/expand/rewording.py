"""Light rewordings of a user's line: the meaning and the reply stay, the surface changes."""

from __future__ import annotations

import random
import re

from charforge.words import word_set

_SHORT = [
    (r"\bwhat is\b", "what's"),
    (r"\bwho is\b", "who's"),
    (r"\bwhere is\b", "where's"),
    (r"\bhow is\b", "how's"),
    (r"\bthat is\b", "that's"),
    (r"\bit is\b", "it's"),
    (r"\bI am\b", "I'm"),
    (r"\byou are\b", "you're"),
    (r"\bdo not\b", "don't"),
    (r"\bdoes not\b", "doesn't"),
    (r"\bdid not\b", "didn't"),
    (r"\bcannot\b", "can't"),
    (r"\bis not\b", "isn't"),
    (r"\bI have\b(?=\s+\w+(?:ed|en)\b)", "I've"),
    (r"\bI would\b", "I'd"),
]
_LONG = [
    (r"\bwhat's\b", "what is"),
    (r"\bwho's\b", "who is"),
    (r"\bwhere's\b", "where is"),
    (r"\bhow's\b", "how is"),
    (r"\bthat's\b", "that is"),
    (r"\bit's\b", "it is"),
    (r"\bI'm\b", "I am"),
    (r"\byou're\b", "you are"),
    (r"\bI've\b", "I have"),
    (r"\byou've\b", "you have"),
    (r"\bI'll\b", "I will"),
    (r"\byou'll\b", "you will"),
    (r"\bcan't\b(?! you\b)", "cannot"),
]
_QUESTION = re.compile(
    r"^(?:what|who|where|when|why|how|which|do|does|did|is|are|was|were|can|could|will|would|have|has|should|may)\b",
    re.I,
)
_LOWER_STARTS = word_set("""
    you your the a an it this that there my we they he she please tell look show give let don't someone taking
""")
_INDIRECT = re.compile(r"^(?:what|who|where|when|why|how|which)\b", re.I)


def rewordings(text: str, name: str, chooser: random.Random, limit: int = 2) -> list[str]:
    """At most ``limit`` different rewordings of one user line, drawn by ``chooser``."""
    candidates = [form for form in _forms(text, name) if form != text]
    candidates = list(dict.fromkeys(candidates))
    chooser.shuffle(candidates)
    # the careless spelling is what people type most: it always has a place
    plain = _careless(text)
    first = [plain] if plain in candidates else []
    return [*first, *(form for form in candidates if form != plain)][:limit]


def _forms(text: str, name: str) -> list[str]:
    forms = [_careless(text), _replaced(text, _SHORT), _replaced(text, _LONG)]
    one_sentence = len(re.findall(r"[.!?](?:\s|$)", text)) <= 1
    first_name = name.split()[0] if name else ""
    named = first_name and re.search(rf"\b{re.escape(first_name)}\b", text, re.I)
    if first_name and not named and not re.match(r"^(?:hey|hi|hello|good|well|oh|so|aww)\b", text, re.I):
        forms.append(f"Hey {first_name}, {_lower_first(text)}")
        if one_sentence and text.endswith(("?", "!", ".")) and len(text.split()) <= 10 and text.count(",") == 0:
            forms.append(f"{text[:-1]}, {first_name}{text[-1]}")
    if one_sentence and _QUESTION.match(text) and text.endswith("?"):
        forms.append(f"So, {_lower_first(text)}")
        if not _INDIRECT.match(text):
            forms.append(f"Tell me, {_lower_first(text)}")
    return forms


def _careless(text: str) -> str:
    """Lower case, without full stops, commas and question marks, as typed in a hurry."""
    return " ".join(re.sub(r"[.,!?;:\"“”…]+(?=\s|$)|(?<!\w)[\"“”]", "", text).lower().split())


def _replaced(text: str, table: list[tuple[str, str]]) -> str:
    for pattern, other in table:
        match = re.search(pattern, text, re.I)
        # "what is that?" may shorten its first words, never its last: "who they are" has no "they're"
        # and "who's claimed it" means "who has": left alone
        if match and re.match(r"\s+(?!\w+(?:ed|en)\b|got\b|gone\b|made\b|been\b)\w", text[match.end() :]):
            new = other[0].upper() + other[1:] if match[0][0].isupper() else other
            return text[: match.start()] + new + text[match.end() :]
    return text


def _lower_first(text: str) -> str:
    first = text.split()[0] if text.split() else ""
    keep = first in ("I", "I'm", "I've", "I'd", "I'll") or (len(first) > 1 and first.isupper())
    common = _QUESTION.match(text) or first.lower().rstrip(",.!?") in _LOWER_STARTS
    return text[0].lower() + text[1:] if common and not keep else text
