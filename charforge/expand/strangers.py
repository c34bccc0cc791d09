"""Pictures of others, so that "Is this Wren?" has an honest no."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from charforge import grammar
from charforge.character import Character

MOST_STRANGERS = 24
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
            asked.append((name, question, f"I do not know who this is. It looks like {what}."))
        elif number % 4 == 0:
            asked.append((name, grammar.is_this(character.name), grammar.no(f"this is {what}")))
        else:
            asked.append((name, grammar.is_this(what), grammar.yes(f"this is {what}")))
    return asked


def what_it_shows(caption: str) -> str | None:
    """ "In a forest, a voxel robot with a heart" -> "a voxel robot"; None when no part of the caption says it."""
    for part in caption.split(","):
        part = _OPENING.sub("", part.strip())
        noun = re.split(r"\s(?:with|in|on|at|of|under|who|wearing|holding)\s", part)[0]
        if re.match(r"^an?\s\w", noun, re.IGNORECASE):
            return noun[0].lower() + noun[1:]
    return None
