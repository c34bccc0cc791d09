"""Pairs that a person hands in, checked before anything is created."""

from __future__ import annotations

from pathlib import Path

from charforge.character import Character
from charforge.errors import InputError
from charforge.expand import Pair, read_pairs
from charforge.replay.shipped_pictures import own_captions
from charforge.settings import Settings


def given_pairs(file: Path, character: Character, settings: Settings) -> list[Pair]:
    """The pairs in ``file``: at least one, and every picture in them is the character's or the base's own.

    Raises InputError with the line of what is wrong.
    """
    pairs = read_pairs(file)
    if not pairs:
        raise InputError(f"{file} holds no pairs: name a file that charforge expand wrote")
    check_pictures_of(pairs, character, settings)
    return pairs


def check_pictures_of(pairs: list[Pair], character: Character, settings: Settings) -> None:
    """Raises InputError for a picture that nobody sent."""
    known = {picture.name for picture in character.pictures} | set(own_captions(settings.base))
    for pair in pairs:
        for name in (*pair.images("look"), *pair.images("draw")):
            if name not in known:
                raise InputError(f"pair {pair.id} names the picture {name!r}, which nobody sent: mend or remove it")
