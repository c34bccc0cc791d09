"""Sentences about the character, turned into its own words where a rule can do it surely."""

from __future__ import annotations

import re

from charforge.words import word_set

_BE = {
    "is": "am",
    "isn't": "am not",
    "was": "was",
    "has": "have",
    "does": "do",
    "doesn't": "don't",
    "hasn't": "haven't",
}

PLAIN_VERBS = word_set("""
    can cannot can't will would could must should may might won't had did didn't was wasn't grew came
    built found made won lost learned learnt met left became began went gave got took wrote fell kept
    spent used once
""")
ADVERBS = word_set("""
    often always never sometimes usually still also secretly once rarely only really
""")


def ended(text: str) -> str:
    """The text with a full stop where it has no mark at its end."""
    return text if re.search(r"[.!?。！？][\"'”’)」』）]*$", text) else f"{text}."


def first_person(text: str, name: str) -> str | None:
    """ "Bo often refers to his owner" -> "I often refer to my owner"; None where the rules are not sure."""
    text = ended(text)
    if re.match(r"^(?:I|My|I'm|I've)\b", text):
        return text
    possessive = re.match(rf"^{re.escape(name)}'s\s+(.+)$", text)
    if possessive:
        rest = _pronouns(possessive[1])
        return f"My {rest}" if rest else None
    match = re.match(rf"^{re.escape(name)}\s+(.+)$", text)
    if not match:
        return None
    rest = _pronouns(match[1])
    # a second verb ("and approaches life") would stay in the third person
    if rest is None or re.search(
        r"\b(?:and|but|or|who|then)\s+(?:\w+ly\s+|\w+times\s+|often\s+|never\s+)?\w+s\s+\w", rest
    ):
        return None
    if re.search(r"(?:and|but|yet|,)\s+(?:is|has|does)\b", rest):
        return None
    words = rest.split()
    lead: list[str] = []
    while words and words[0].lower() in ADVERBS and len(words) > 1:
        lead.append(words.pop(0))
    verb = _base(words[0]) if words else None
    if verb is None:
        return None
    return " ".join(["I", *lead, verb, *words[1:]])


def _pronouns(text: str) -> str | None:
    """Possessives of the character become "my"; None when he, she or they act in the sentence."""
    if re.search(r"\b(?:he|she|him|they|them|hers|theirs|himself and|it's)\b", text, re.I):
        return None
    text = re.sub(r"\b(?:his|her)\b(?=\s+[\w\"'])", "my", text)
    return re.sub(r"\b(?:himself|herself)\b", "myself", text)


def _base(verb: str) -> str | None:
    """The first-person form of a third-person verb; None for what does not look like one."""
    if verb in _BE:
        return _BE[verb]
    if verb in PLAIN_VERBS or verb.endswith("ed"):
        return verb
    if not re.match(r"^[a-z]+s$", verb) or verb.endswith("ss"):
        return None
    if verb.endswith("ies") and len(verb) > 4:
        return f"{verb[:-3]}y"
    if re.search(r"(?:ss|sh|ch|x|zz|o)es$", verb):
        return verb[:-2]
    return verb[:-1]
