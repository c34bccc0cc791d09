"""What `mini` can draw of a character, in one line, from its words and its pictures: said before it is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from charforge.character.character import Character
from charforge.character.pictures import load_picture

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["person", "critter", "clay", "sprout", "robot"]

KIND_NOUN: dict[Kind, str] = {
    "person": "voxel person",
    "critter": "critter",
    "clay": "clay creature",
    "sprout": "potted sprout",
    "robot": "voxel robot",
}
KINDS = "voxel people, critters, clay creatures, potted sprouts and voxel robots"
WORDS: dict[Kind, str] = {
    "person": "person|people|human|man|woman|boy|girl|child|kid|lady|guy",
    "critter": "critter|monster|creature",
    "clay": "clay",
    "sprout": "sprout|plant|cactus|flower",
    "robot": "robot|android|droid|automaton",
}
SAME = 2
"""Levels of 255 by which neighbours may differ and still be one colour: more than a picture's storing changes."""
FLAT = 0.5
"""Between drawings in flat colours (0.88 to 0.98; 0.50 to 0.90 after JPEG at quality 80) and photographs (0.02 to
0.44): 71 pictures of nine drawn characters and 30 photographs of two animals (docs/log.md). Shaded paintings were not
among them."""


def flat_share(image: Image) -> float:
    """The share of pixels whose right and lower neighbours have the same colour, 0 to 1."""
    import numpy as np

    values = np.asarray(image.convert("RGB"), np.int16)
    if min(values.shape[:2]) < 2:
        return 1.0
    corner = values[:-1, :-1]
    right, below = (np.abs(other - corner).max(-1) for other in (values[:-1, 1:], values[1:, :-1]))
    return float(((right <= SAME) & (below <= SAME)).mean())


def kind_of(words: str) -> tuple[Kind, bool] | None:
    """The kind that ``words`` name, and whether they do so in its own noun; None when they name none."""
    words = words.lower()
    for kind, noun in KIND_NOUN.items():
        if noun in words:
            return kind, True
    for kind, others in WORDS.items():
        if re.search(rf"\b({others})s?\b", words):
            return kind, False
    return None


def sentence(name: str, noun: str, captions: Sequence[str], flat: float | None) -> str:
    """What `mini` will make of a character. ``flat``: the mean :func:`flat_share` of its pictures, None without any."""
    draws, what = f"mini draws {KINDS}", f"{name}, {noun!r}," if noun else f"{name} (nothing says what it is)"
    found = kind_of(noun) or kind_of(" ".join(captions))
    if flat is not None and flat < FLAT:
        return (
            f"{draws}, no photographs: of {name} it will learn the colours only (guessed: {100 * flat:.0f} % of the "
            f"pictures is flat colour, in drawings it is {100 * FLAT:.0f} % or more)"
        )
    if found is None:
        return f"{draws}: of {what} it will learn colours and places, hardly the shape (guessed from the words)"
    kind, named = found
    if named:
        return f"{draws}: {name} is one of them, a {KIND_NOUN[kind]}"
    return f"{draws}: {what} will look like a {KIND_NOUN[kind]} at best (guessed from the words)"


def what_mini_draws(character: Character) -> str:
    """:func:`sentence` for ``character``; reads and decodes its pictures."""
    shares = [flat_share(load_picture(picture.path)) for picture in character.pictures]
    captions = [picture.caption for picture in character.pictures if picture.caption is not None]
    flat = sum(shares) / len(shares) if shares else None
    return sentence(character.name, character.class_noun, captions, flat)
