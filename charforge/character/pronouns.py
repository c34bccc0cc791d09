"""How a character is spoken of in English: by a declared field, by the sentences about it, by its title or a tag, or by
its noun.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from charforge.character.kinds import Claim
from charforge.character.name_parts import Parts
from charforge.character.statements import Sentence, fields, name_pattern, sentences_of
from charforge.character.titles import spoken_of_by
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


_TAGS = {
    "she": word_set("female woman girl she/her weiblich frau femenino mujer femme femminile женщина девушка 女性 女"),
    "he": word_set("male man boy he/him männlich mann masculino hombre homme maschile мужчина парень 男性 男"),
    "they": word_set("non-binary nonbinary enby agender they/them"),
}


def pronouns_of(name: str, text: str, noun: str, tags: Sequence[str] = ()) -> Claim | None:
    """ "she", "he", "they" or "it" with its evidence; None where nothing tells. ``tags`` are those of a card."""
    for key in ("pronouns", "pronoun", "gender", "sex", "geschlecht", "género", "性別", "性别"):
        for field in fields(text):
            word = next((word for word, form in _DECLARED if form.match(field.value)), "")
            if field.key == key and word:
                return Claim(word, field.line, 0.95)
    told = sentences_of(text, name)
    said = _by_sentences(name, told)
    if said is not None and said.noun in ("she", "he"):
        return said
    return _by_title(name) or _by_tags(tags) or said or _by_noun(noun) or _by_the_only_one(told)


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


def _by_title(name: str) -> Claim | None:
    """ "Mr. Thistlewick" is a he."""
    word = spoken_of_by(Parts.of(name).titles)
    return Claim(word, f"the name: {name}", 0.9) if word else None


def _by_tags(tags: Sequence[str]) -> Claim | None:
    """By tags that say nothing else, where they agree: "male", and not "male pov"."""
    found = {word: tag for tag in tags for word, forms in _TAGS.items() if tag.strip().casefold() in forms}
    return next((Claim(word, f"a tag: {tag}", 0.85) for word, tag in found.items()), None) if len(found) == 1 else None


def _by_the_only_one(told: Sequence[Sentence]) -> Claim | None:
    """A guess: of all that is written only he, or only she, where a sentence begins so."""
    words = {word for sentence in told for word in re.findall(r"[a-z]+", sentence.said.lower())}
    found = [word for word in ("she", "he") if words & _FORMS[word]]
    begins = next((s.text for s in told if s.said.startswith(("He ", "She "))), "")
    return Claim(found[0], begins, 0.5) if len(found) == 1 and begins else None


def _by_noun(noun: str) -> Claim | None:
    last = noun.split()[-1].lower() if noun else ""
    word = next((word for word, nouns in _BY_NOUN.items() if last in nouns), "")
    return Claim(word, f"what it is: {noun}", 0.6) if word else None
