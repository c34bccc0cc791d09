"""Sentences about the character, turned into its own words where a rule can do it surely."""

from __future__ import annotations

import re
from functools import cache

from charforge.character.name_parts import Parts
from charforge.character.speakers import Names
from charforge.full_stops import ended
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
    spent used once hid sold bought taught read ran drew sang broke rode
""")
ADVERBS = word_set("""
    often always never sometimes usually still also secretly once rarely only really
""")
_CALL_HER = re.compile(r"\b(?:call|name|nickname|dub|label|christen)\w*\s+her\b", re.IGNORECASE)
"""Here "her" is the character and no possessive: 'Her colleagues call her "the Kettle"'."""
_SPOKEN_OF = re.compile(r"\b(?:he|she|him|they|them|hers|theirs|himself and|herself and|it's)\b", re.IGNORECASE)
_HER_ALONE = re.compile(
    r"\bher\s+(?:to|how|that|when|while|if|in|on|at|with|for|from|and|or|but|a|an|the|by|not|as|about|every|once|again"
    r"|back|home|into|until|after|before|because|very|so|too|up|out|off|away|there|here)\b",
    re.IGNORECASE,
)
"""Nobody's: "taught her to ski" is done to somebody."""


def by_name(sentence: str, name: str) -> str:
    """A sentence about the character that begins with a pronoun, with its name: "She naps." -> "Bo naps."."""
    # not it and they: "It rains" is about nobody, and "They nap" would become "Bo nap"
    named = re.sub(r"^(?:He|She)\b", name, by_whole_name(sentence, name))
    return re.sub(r"^(?:His|Her)\b", f"{name}'s", named)


@cache
def _called(name: str) -> Names:
    return Names.of(name)


def by_whole_name(sentence: str, name: str) -> str:
    """A sentence that begins with a part of the character's name, with all of it: "Dr. Kowal naps." -> "Dr. Julia Kowal
    naps."; what a name of two ("Hob and Nell") says of one is left.
    """
    subject = _called(name).subject_of(sentence)
    if not subject or re.search(r"\s(?:and|&|und|et|y)\s", name):
        return sentence
    return name + sentence[len(subject) :]


def first_person(text: str, name: str) -> str | None:
    """ "Bo often refers to his owner" -> "I often refer to my owner"; None where the rules are not sure.

    A surname or a nickname in quotes after ``name`` is part of it: "Bo Derek sings" -> "I sing".
    """
    text = ended(text)
    if re.match(r"^(?:I|My|I'm|I've)\b", text):
        return None if _names(text, name) or _is_third(text) else text
    possessive = re.match(rf"^{re.escape(name)}'s?\s+(.+)$", text)
    if possessive:
        rest = _pronouns(possessive[1])
        return f"My {rest}" if rest and not _names(rest, name) else None
    match = re.match(rf"^{re.escape(name)}(?:\s+[\"“]?[A-Z][\w'’-]*[\"”]?){{0,3}}\s+([a-z].+)$", text)
    if not match:
        return None
    lead: list[str] = []
    words = match[1].split()
    while len(words) > 1 and (words[0] in ADVERBS or re.fullmatch(r"[a-z]+ly", words[0])):
        lead.append(words.pop(0))
    verb = _base(words[0])
    rest = _rest(" ".join(words[1:]), described=verb in ("am", "was"))
    if verb is None or rest is None or _names(rest, name):
        return None
    return " ".join(["I", *lead, verb, rest]) if rest else None


def _rest(text: str, described: bool) -> str | None:
    """What follows the verb, in the first person; None where another verb of the character may stand in it."""
    # "a robot who keeps himself busy": after "I am" the clause is about the robot, and stays as it is
    said, clause = text, ""
    if described and (relative := re.search(r",?\s(?:who|which|that)\s", text)):
        said, clause = text[: relative.start()], text[relative.start() :]
        if _SPOKEN_OF.search(clause) or re.search(r"[,;]\s", clause[1:]):
            return None
    rest = _pronouns(said)
    if rest is None:
        return None
    # "loves tea and is afraid": these verbs are surely verbs, and surely the character's where no clause began
    if not re.search(r"\b(?:who|which|that|when|while|where|because|if)\b", rest):
        rest = re.sub(
            r"\b(and|but|or|yet)\s+(is|has|does|isn't|doesn't|hasn't)\b", lambda m: f"{m[1]} {_BE[m[2]]}", rest
        )
    # any other second verb ("and approaches life") would stay in the third person
    if re.search(r"\b(?:and|but|or|who|then)\s+(?:\w+ly\s+|\w+times\s+|often\s+|never\s+)?(?!was\b)\w+s\s+\w", rest):
        return None
    if re.search(r"(?:\b(?:and|but|yet)|,)\s+(?:is|has|does)\b", rest):
        return None
    return rest + clause


def _names(text: str, name: str) -> bool:
    """Whether the character is called by its name or a part of it, outside quotes."""
    forms = "|".join(re.escape(form) for form in (name, *Parts.of(name).short))
    return re.search(rf"(?<!\w)(?:{forms})(?!\w)", re.sub(r"[\"“][^\"”]*[\"”]", "", text)) is not None


def _is_third(text: str) -> bool:
    """Whether a later sentence of the text goes on in the third person: "I howl. He is loud."."""
    return re.search(r"[.!?]\s+(?:He|She|His|Her)\b", text) is not None


def _pronouns(text: str) -> str | None:
    """Possessives of the character become "my"; None when he, she or they act in the sentence."""
    if _SPOKEN_OF.search(text) or _HER_ALONE.search(text) or _CALL_HER.search(text):
        return None
    text = re.sub(r"\b(?:his|her)\b(?=\s+[\w\"'])", "my", text)
    return re.sub(r"\b(?:himself|herself)\b", "myself", text)


def told_by_itself(text: str, name: str) -> str | None:
    """A sentence about somebody else as the character tells it: "a robot that Wren built" -> "a robot that I built".

    None where the character is in it in a way that the rules do not know.
    """
    text = ended(text)
    text = re.sub(rf"(?<!\w){re.escape(name)}'s(?!\w)", "my", text)
    past = "|".join(sorted(PLAIN_VERBS - {"can", "will", "may"}))
    text = re.sub(rf"(?<=\s){re.escape(name)}\s+(?=(?:{past}|[a-z]+ed)\b)", "I ", text)
    # "her" may be the character or the other one
    return None if _names(text, name) or re.search(r"\b(?:he|she|his|her|him|hers)\b", text, re.IGNORECASE) else text


_SECOND = (
    (r"\bI am\b", "you are"), (r"\bI was\b", "you were"), (r"\bI'm\b", "you're"), (r"\bI've\b", "you've"),
    (r"\bI\b", "you"), (r"\b[Mm]y\b", "your"), (r"\b[Mm]yself\b", "yourself"), (r"\bme\b", "you"),
)  # fmt: skip


def to_you(sentence: str) -> str:
    """ "My rival is Ann." -> "your rival is Ann"."""
    for pattern, word in _SECOND:
        sentence = re.sub(pattern, word, sentence)
    return sentence.rstrip(".!")


def _base(verb: str) -> str | None:
    """The first-person form of a third-person verb; None for what does not look like one."""
    if verb in _BE:
        return _BE[verb]
    if verb in PLAIN_VERBS or re.fullmatch(r"[a-z]+ed", verb):
        return verb
    if not re.match(r"^[a-z]+s$", verb) or verb.endswith("ss"):
        return None
    if verb.endswith("ies") and len(verb) > 4:
        return f"{verb[:-3]}y"
    if re.search(r"(?:ss|sh|ch|x|zz|o)es$", verb):
        return verb[:-2]
    return verb[:-1]
