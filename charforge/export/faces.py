"""The 28 expressions that front ends know, in words that a base can draw and that it can be asked about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from charforge import grammar
from charforge.bases.can_draw import KIND_NOUN, kind_of
from charforge.expand.scenes import OPEN_QUESTIONS, Kind, answer_of

SCENE = "on a white background"
"""What is the same in all expressions unless other words are given: no place, for front ends have their own."""


@dataclass(frozen=True)
class Face:
    """An expression: ``words`` for a base that knows feelings; mouth and eyes for ``mini``, which knows those alone."""

    words: str
    mouth: str
    eyes: str


FACES: Mapping[str, Face] = {
    "admiration": Face("with an admiring expression", "with an open mouth", "with starry eyes"),
    "amusement": Face("with an amused expression", "grinning", "with happy eyes"),
    "anger": Face("with an angry expression", "frowning", "with wide eyes"),
    "annoyance": Face("with an annoyed expression", "with a straight face", "with happy eyes"),
    "approval": Face("with an approving expression", "smiling", "with closed eyes"),
    "caring": Face("with a caring expression", "smiling", "with happy eyes"),
    "confusion": Face("with a confused expression", "with an open mouth", "with sleepy eyes"),
    "curiosity": Face("with a curious expression", "with an open mouth", "with open eyes"),
    "desire": Face("with a longing expression", "smirking", "with starry eyes"),
    "disappointment": Face("with a disappointed expression", "frowning", "with sleepy eyes"),
    "disapproval": Face("with a disapproving expression", "frowning", "with open eyes"),
    "disgust": Face("with a disgusted expression", "sticking out the tongue", "with closed eyes"),
    "embarrassment": Face("with an embarrassed expression", "sticking out the tongue", "with happy eyes"),
    "excitement": Face("with an excited expression", "laughing", "with starry eyes"),
    "fear": Face("with a frightened expression", "with a straight face", "with wide eyes"),
    "gratitude": Face("with a grateful expression", "grinning", "with closed eyes"),
    "grief": Face("with a grieving expression", "with a straight face", "with closed eyes"),
    "joy": Face("with a joyful expression", "laughing", "with happy eyes"),
    "love": Face("with a loving expression", "smiling", "with starry eyes"),
    "nervousness": Face("with a nervous expression", "grinning", "with wide eyes"),
    "optimism": Face("with a hopeful expression", "smiling", "with open eyes"),
    "pride": Face("with a proud expression", "smirking", "with closed eyes"),
    "realization": Face("with an expression of sudden understanding", "smiling", "with wide eyes"),
    "relief": Face("with a relieved expression", "smiling", "with sleepy eyes"),
    "remorse": Face("with a remorseful expression", "with a straight face", "with sleepy eyes"),
    "sadness": Face("with a sad expression", "frowning", "with closed eyes"),
    "surprise": Face("with a surprised expression", "with an open mouth", "with wide eyes"),
    "neutral": Face("with a neutral expression", "with a straight face", "with open eyes"),
}
"""By the names that SillyTavern gives them; no two share both mouth and eyes."""


@dataclass(frozen=True)
class Asked:
    """A question about an expression, the answers to choose from, and which one is right."""

    question: str
    answers: tuple[str, ...]
    right: int


def details_of(label: str, simple: bool) -> dict[Kind, str]:
    """What is drawn for an expression; ``simple``: in the words of ``mini``."""
    face = FACES[label]
    return {"mouth": face.mouth, "eyes": face.eyes} if simple else {"mouth": face.words}


def questions_about(label: str, simple: bool) -> tuple[Asked, ...]:
    """How the base is asked whether a picture shows an expression: it has all of them to choose from."""
    asked = []
    for kind, words in details_of(label, simple).items():
        told = list(dict.fromkeys(details_of(other, simple)[kind] for other in FACES))
        asked.append(Asked(OPEN_QUESTIONS[kind], tuple(map(answer_of, told)), told.index(words)))
    return tuple(asked)


def prompt_details(label: str, simple: bool, scene: str) -> str:
    """The expression and what is the same in all, as they follow a character's name in a caption."""
    return ", ".join([*details_of(label, simple).values(), scene])


def what_mini_knows(name: str, noun: str) -> str:
    """What becomes of the expressions on ``mini``, in one line."""
    told = (
        f"mini knows mouths and eyes and no feelings: each of the {len(FACES)} expressions is drawn as one of each, "
        f"joy as {' '.join(details_of('joy', True).values())!r}"
    )
    kind = kind_of(noun)
    if kind is not None and kind[0] == "person":
        return told
    what = grammar.with_article(KIND_NOUN[kind[0]]) if kind is not None else "what mini does not know"
    return f"{told}; it learned them from people, and {name} is {what}: many will look alike"
