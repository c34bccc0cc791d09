"""Pictures of others, so that "Is this Wren?" has an honest no."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from charforge import grammar
from charforge.character import Character
from charforge.expand.phrases import Phrase, phrases, surely_absent

MOST_STRANGERS = 24
KINDS = ("place", "pose", "clothes")
"""Of a caption's details those that a picture has once and that fit after "is"."""
_ODD = re.compile(r"\bbefore\b|\bon the (?:left|right)\b")
_OPENING = re.compile(r"^(?:draw|an? (?:picture|photo|drawing|image) (?:of|showing))\s+", re.IGNORECASE)


def stranger_questions(
    character: Character, strangers: Mapping[str, str], chooser: random.Random
) -> list[tuple[str, str, str]]:
    """(picture, question, answer) triples: who it is not, and what it is instead.

    ``strangers`` are the base's own pictures: name as a pair names it ("base:17") -> caption. Half of the questions
    ask openly, so that the name is not the answer to every question about a picture; a quarter is answered by no and a
    quarter by yes. Captions that do not say what is shown are left out.
    """
    known = [(name, what) for name, caption in strangers.items() if (what := what_it_shows(caption))]
    asked = []
    for number, (name, what) in enumerate(chooser.sample(known, min(len(known) // 4 * 4, MOST_STRANGERS))):
        if number % 2:
            question = grammar.WHO_IS_IN_THE_PICTURE if number % 4 == 1 else grammar.WHO_IS_THIS
            asked.append((name, question, f"I do not know its name: {what}."))
        elif number % 4 == 0:
            asked.append((name, grammar.is_this(character.name), grammar.no(f"this is {what}")))
        else:
            asked.append((name, grammar.is_this(what), grammar.yes(f"this is {what}")))
    return asked


def stranger_looks(
    character: Character, strangers: Mapping[str, str], chooser: random.Random
) -> list[tuple[str, str, str]]:
    """(picture, question, answer): of each of some strangers one thing that is so and one that is not.

    A handful of pictures learned by heart makes the base say yes to whatever it is asked about a new one; these keep
    its eyes open.
    """
    told = {
        name: [Phrase(p.kind, f"{p.text[0].lower()}{p.text[1:]}") for p in phrases(character, caption)]
        for name, caption in strangers.items()
    }
    told = {name: [p for p in own if p.kind in KINDS and not _ODD.search(p.text)] for name, own in told.items()}
    known = [name for name, own in told.items() if own]
    asked = []
    for name in chooser.sample(known, min(len(known), MOST_STRANGERS)):
        true = chooser.choice(told[name])
        alike = {p for other in known for p in told[other] if p.kind == true.kind}
        false = [p for p in sorted(alike, key=lambda p: p.text) if surely_absent(p, strangers[name], told[name])]
        if false:
            so, wrong = f"it is {true.text}", chooser.choice(false)
            asked.append((name, grammar.is_it("it", true.text), grammar.yes(so)))
            asked.append((name, grammar.is_it("it", wrong.text), grammar.no(so)))
    return asked


def what_it_shows(caption: str) -> str | None:
    """ "In a forest, a voxel robot with a heart" -> "a voxel robot"; None when no part of the caption says it."""
    for part in caption.split(","):
        part = _OPENING.sub("", part.strip())
        noun = re.split(r"\s(?:with|in|on|at|of|under|who|wearing|holding)\s", part)[0]
        if re.match(r"^an?\s\w", noun, re.IGNORECASE):
            return noun[0].lower() + noun[1:]
    return None
