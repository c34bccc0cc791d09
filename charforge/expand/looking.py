"""What pictures without a caption show, and what their character is, told by a model that sees them.

It describes each picture; every phrase of that is asked for once more with yes or no, and dropped unless it is
confirmed. A model that does not see the two known pictures of :mod:`charforge.expand.sight` is asked nothing, and
nothing is claimed.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from charforge import grammar
from charforge.character import Character
from charforge.character.nouns import names_a_being
from charforge.character.understanding import Item
from charforge.expand.asking import Complete, Request, ask
from charforge.expand.phrases import Phrase, phrases_of
from charforge.expand.sight import can_see
from charforge.files import write_atomic
from charforge.room import tokens_of

LONGEST_DESCRIPTION = 80
"""Tokens of a description."""
LOOKED_AT = 3
"""Pictures that are looked at to tell what the character is."""
CLEAR = 0.8
"""Probability from which on the base's answer to what the character is counts."""
MOST_CANDIDATES = 8
THE_BASE = "the base's answer"
SEEN = "the writer looked, and confirmed each phrase"
_COMMON = ("woman", "man", "girl", "boy", "dog", "cat", "robot", "creature")

Confirm = Callable[[str, str], bool]
"""(picture's name, yes/no question) -> whether the model surely says yes."""
Score = Callable[[Sequence[str], str, Sequence[str]], Sequence[float]]
"""(pictures' names, question, answers) -> how likely each answer is, as a log-likelihood."""


@dataclass(frozen=True)
class Sight:
    """How a model that sees is asked whether a phrase is true of a picture, and which answer is likeliest."""

    confirm: Confirm
    score: Score | None = None


@dataclass(frozen=True)
class Looked:
    """What looking told. ``captions`` by the picture's name; ``class_noun`` None where it told nothing new.

    ``dropped``: phrases that were written and not confirmed. ``why_not``: why nothing was asked, empty otherwise.
    """

    captions: Mapping[str, str] = field(default_factory=dict)
    class_noun: Item | None = None
    dropped: int = 0
    why_not: str = ""


def look(character: Character, complete: Complete, sight: Sight) -> Looked:
    """Look at the pictures that have no caption, and at three of all where the class is not sure."""
    bare = [picture.name for picture in character.pictures if not picture.caption]
    unsure = character.understanding.class_noun.how != "sure"
    english = grammar.is_english(character)
    if not (bare and english) and not (unsure and sight.score):
        return Looked()
    if not can_see(complete):
        return Looked(why_not="the writer does not see what pictures show: their captions stay bare")
    captions, dropped = _captions(character.name, bare, complete, sight) if english else ({}, 0)
    return Looked(captions, _class_noun(character, sight) if unsure else None, dropped)


def _captions(name: str, bare: Sequence[str], complete: Complete, sight: Sight) -> tuple[dict[str, str], int]:
    asked = [ask("caption", LONGEST_DESCRIPTION, picture, name=name) for picture in bare]
    found: dict[str, str] = {}
    dropped = 0
    for picture, text in zip(bare, complete(asked), strict=True):
        phrases = told_phrases(text)
        kept = [phrase for phrase in phrases if sight.confirm(picture, question_about(phrase))]
        dropped += len(phrases) - len(kept)
        if kept:
            found[picture] = ", ".join(in_caption(phrase) for phrase in kept)
    # what is said of several pictures does not tell them apart, and would be learned with these words
    counts = Counter(found.values())
    return {picture: text for picture, text in found.items() if counts[text] == 1}, dropped


def told_phrases(text: str) -> list[Phrase]:
    """The checkable phrases of a description; none of a sentence that speaks of the one who describes."""
    line = text.strip().split("\n")[0].strip(" \"'`*.")
    if re.search(r"\b(?:I|I'm|I’m|sorry|cannot|can't|unable|assist|image|picture|photo)\b", line, re.IGNORECASE):
        return []
    return phrases_of(grammar.split_caption(line[:1].lower() + line[1:]))


def question_about(phrase: Phrase) -> str:
    """The yes/no question whether a picture shows the phrase."""
    return grammar.shows(phrase.text) if phrase.kind == "thing" else grammar.is_it("it", phrase.text)


def in_caption(phrase: Phrase) -> str:
    """The phrase as a part of a caption: "a happy expression" -> "with a happy expression"."""
    return f"with {phrase.text}" if phrase.kind == "thing" else phrase.text


def _class_noun(character: Character, sight: Sight) -> Item | None:
    if sight.score is None:
        return None
    given = character.understanding.class_noun
    nouns = candidates(character)
    shown = [picture.name for picture in character.pictures[:LOOKED_AT]]
    scores = sight.score(shown, asked_of(character), [f"{grammar.with_article(noun)}." for noun in nouns])
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    best = max(range(len(nouns)), key=lambda index: scores[index])
    share = weights[best] / sum(weights)
    if share < CLEAR or (given.value and given.value != nouns[best]):
        return None
    if given.value:
        return Item(given.value, f"{given.evidence}; {THE_BASE}", max(given.confidence, CLEAR), "sure")
    return Item(nouns[best], THE_BASE, round(share, 2), "guessed")


def asked_of(character: Character) -> str:
    """What the base is asked beside the pictures: what the character is, after its profile where the base has room for
    the whole of it. A part of it would speak of whoever happens to stand there."""
    profile = grammar.whole_persona(character)
    fits = profile and tokens_of(profile) <= character.room.persona
    return f"{profile} {grammar.what_is(character.name)}" if fits else grammar.what_is(character.name)


def candidates(character: Character) -> list[str]:
    """What the base may answer: the nouns for beings that occur in the profile, and the commonest ones."""
    words = re.findall(r"[a-z]{3,}", character.profile_text or character.persona)
    told = [character.class_noun] if character.class_noun else []
    told += [word for word, _ in Counter(word for word in words if names_a_being(word)).most_common(MOST_CANDIDATES)]
    return list(dict.fromkeys([*told, *_COMMON]))


def confirm_in_words(complete: Complete) -> Confirm:
    """Ask in words, of the picture and of a known one that shows nothing of it: yes to the first, no to the other."""

    def confirm(picture: str, question: str) -> bool:
        words = (("user", f"{question} Answer with one word: yes or no."),)
        requests = [Request("probe", words, shown, max_tokens=4) for shown in (picture, "probe:triangle")]
        here, elsewhere = (text.strip(" \"'*.").lower() for text in complete(requests))
        return here.startswith("yes") and elsewhere.startswith("no")

    return confirm


def with_looks(character: Character, looked: Looked) -> Character:
    """The character with what looking told: captions where it had none, and its class."""
    pictures = tuple(
        replace(picture, caption=picture.caption or looked.captions.get(picture.name)) for picture in character.pictures
    )
    told = character.understanding
    if looked.captions:
        count = sum(picture.caption is not None for picture in pictures)
        shown = Item(f"{count} of {len(pictures)} pictures have a caption", SEEN, CLEAR, "guessed")
        told = replace(told, pictures=shown)
    if looked.class_noun is not None:
        told = replace(told, class_noun=looked.class_noun)
    return replace(character, pictures=pictures, class_noun=told.class_noun.value, understanding=told)


def write_looked(file: Path, looked: Looked) -> None:
    """Keep what looking told, so that a run that goes on has the same words."""
    write_atomic(file, json.dumps(asdict(looked), ensure_ascii=False, indent=1) + "\n")


def read_looked(file: Path) -> Looked:
    """The inverse of :func:`write_looked`; nothing where there is no file."""
    if not file.exists():
        return Looked()
    told = json.loads(file.read_text("utf-8"))
    noun = told.pop("class_noun")
    return Looked(**told, class_noun=Item(**noun) if noun else None)
