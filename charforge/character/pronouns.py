"""How a character is spoken of in English: by a declared field, by the sentences about it, or by its noun."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from charforge.character.kinds import Claim
from charforge.character.statements import Sentence, fields, name_pattern, sentences_of
from charforge.words import word_set

_FORMS = {
    "she": word_set("she her hers herself"),
    "he": word_set("he him his himself"),
    "they": word_set("they them their theirs themself themselves"),
    "it": word_set("it its itself"),
}
_BY_NOUN = {
    "she": word_set("""
        woman girl lady queen princess empress duchess countess baroness witch sorceress priestess goddess nun mermaid
        heroine actress waitress hostess huntress seamstress maid housewife nurse-maid mare hen cow heiress
    """),
    "he": word_set("""
        man boy gentleman king prince emperor duke count baron wizard warlock sorcerer priest monk god merman hero actor
        waiter butler stallion rooster bull heir tomcat cowboy
    """),
}  # fmt: skip
_DECLARED = (
    ("she", re.compile(r"^(?:she\b|female|woman|girl|f$|weiblich|femenino|femme|女)", re.I)),
    ("he", re.compile(r"^(?:he\b|male|man|boy|m$|männlich|masculino|homme|男)", re.I)),
    ("they", re.compile(r"^(?:they\b|non-?binary|agender|enby)", re.I)),
    ("it", re.compile(r"^(?:it\b|none|neutral|genderless|no gender)", re.I)),
)


def pronouns_of(name: str, text: str, noun: str) -> Claim | None:
    """ "she", "he", "they" or "it" with its evidence; None where nothing tells."""
    for key in ("pronouns", "pronoun", "gender", "sex", "geschlecht", "género", "性別", "性别"):
        for field in fields(text):
            word = next((word for word, form in _DECLARED if form.match(field.value)), "")
            if field.key == key and word:
                return Claim(word, field.line, 0.95)
    return _by_sentences(name, sentences_of(text, name)) or _by_noun(noun)


def _by_sentences(name: str, told: Sequence[Sentence]) -> Claim | None:
    named = re.compile(name_pattern(name))
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for sentence in told:
        if not sentence.known:
            continue
        words = re.findall(r"[a-z]+", sentence.said.lower())
        starts = words[:1]
        for word, forms in _FORMS.items():
            # "it" and "they" are about other things too: only where they begin the sentence
            count = sum(w in forms for w in (words if word in ("she", "he") else starts))
            if count and (word in ("she", "he") or not named.match(sentence.said)):
                counts[word] += count
                first.setdefault(word, sentence.text)
    if not counts:
        return None
    persons = {word: counts[word] for word in ("she", "he") if counts[word]}
    best = max(persons or counts, key=lambda word: counts[word])
    share = counts[best] / sum((persons or counts).values())
    return Claim(best, first[best], round(share * (0.9 if counts[best] > 1 else 0.75), 2))


def _by_noun(noun: str) -> Claim | None:
    last = noun.split()[-1].lower() if noun else ""
    word = next((word for word, nouns in _BY_NOUN.items() if last in nouns), "")
    return Claim(word, f"what it is: {noun}", 0.6) if word else None
