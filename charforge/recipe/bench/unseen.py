"""What the benchmark asks for: looks, captions and characters that no training data holds. Fixed for ever."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from charforge.recipe import captions, world
from charforge.recipe.vision import words_of
from charforge.recipe.world import Look

NAMES = (
    "Ada", "Bram", "Cleo", "Dov", "Esme", "Finn", "Gwen", "Hugo", "Iris", "Juno",
    "Kai", "Luca", "Mila", "Nils", "Odette", "Piet", "Quinn", "Rosa", "Sven", "Tilda",
)  # fmt: skip
IDENTITY = ("hair", "style", "skin", "glasses", "kind", "top")
SHOWN, ASKED = 10, 8
"""Pictures and prompts of a few-shot character."""


@dataclass(frozen=True)
class Subject:
    """A few-shot character: its look, the looks of its training pictures and of the prompts for new ones."""

    name: str
    look: Look
    shown: list[Look]
    asked: list[Look]


def choose_captions(count: int) -> list[tuple[Look, str]]:
    """The first ``count`` looks of the benchmark with captions that say everything; other draws than training data."""
    chosen = []
    for number in range(count):
        rng = random.Random(f"benchmark: caption {number}")
        look = world.random_look(rng)
        chosen.append((look, captions.caption(look, rng, completeness=1.0)))
    return chosen


def stated_words(look: Look) -> dict[str, str]:
    """The attributes that a complete caption says, in the probe's words: what is absent is not said."""
    words = words_of(look)
    return {name: word for name, word in words.items() if word not in ("nothing", "no glasses")}


def subject(number: int) -> Subject:
    """Character ``number`` of at most twenty: three of four are people. New scenes combine what no picture showed."""
    rng = random.Random(f"benchmark: character {number}")
    kind: world.Kind = "person" if number % 4 != 3 else rng.choice(("critter", "clay", "sprout", "robot"))
    look = world.random_look(rng, kind)
    while captions.hides_eyes(look):
        look = world.random_look(rng, kind)
    shown = [_move_elsewhere(look, rng) for _ in range(SHOWN)]
    known = {_scene(other) for other in shown}
    asked: list[Look] = []
    while len(asked) < ASKED:
        new = _move_elsewhere(look, rng)
        if _scene(new) not in known:
            asked.append(new)
    return Subject(NAMES[number], look, shown, asked)


def scene_words(look: Look) -> dict[str, str]:
    """Expression, clothes and place in the probe's words: what a prompt about a known character asks for."""
    words = words_of(look)
    names = ("eyes", "mouth", "where") + (("outfit", "color") if look.kind == "person" else ())
    return {name: words[name] for name in names if name in words}


def identity_words(look: Look) -> dict[str, str]:
    """What must stay in every picture of a character; a creature's colour belongs to it."""
    words = words_of(look)
    names = IDENTITY + (() if look.kind == "person" else ("color",))
    return {name: words[name] for name in names if name in words}


def _move_elsewhere(look: Look, rng: random.Random) -> Look:
    changed = world.random_mood(rng, world.random_scene(rng, look))
    return replace(changed, thing="", side="")


def _scene(look: Look) -> tuple[str, ...]:
    return (look.place or look.background, look.eyes, look.mouth, look.outfit, look.outfit_color)
