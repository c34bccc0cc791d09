"""What is not understood of a character, judged before training: a guess is said, and the unknown is asked for."""

from __future__ import annotations

from charforge.character.character import Character
from charforge.errors import Problem

KNOWN_TO_THE_TEMPLATE = "en"
"""The language in which the rules have sentences of their own."""


def judge_understanding(character: Character) -> list[Problem]:
    """Warnings about what is unknown or only guessed, with what to write and where."""
    told, name = character.understanding, character.name
    problems: list[Problem] = []

    def warn(problem: str, remedy: str) -> None:
        problems.append(Problem("character.md", "warning", problem, remedy))

    if not character.class_noun:
        remedy = "write class: into the front matter of character.md, for example class: lighthouse keeper"
        warn(f"nothing says what {name} is: captions and prompts use the name alone", remedy)
    elif told.class_noun.how == "guessed":
        remedy = f"write class: {character.class_noun}, or what is right, into the front matter of character.md"
        warn(f'{name} is taken for "{character.class_noun}", a guess from: {told.class_noun.evidence}', remedy)
    if not character.language:
        warn(f"the language of {name} could not be told", "write a few longer replies into the dialogues")
    elif character.language != KNOWN_TO_THE_TEMPLATE:
        remedy = "write more dialogues and captions, or let a language model write them: --writer self or endpoint"
        warn(f"{name} speaks {character.language}: the template adds no sentences of its own to your words", remedy)
    return problems


def reservations(character: Character) -> list[str]:
    """What makes a folder that can be trained a poor one: for the line that says that it is ready."""
    found = [] if character.class_noun else [f"nothing says what {character.name} is"]
    if not any(picture.caption for picture in character.pictures):
        found.append("no picture has a caption")
    return found
