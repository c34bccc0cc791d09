"""What is understood of a character before anything is trained: what it is, its pronouns, its language, its pictures.

Every item stands with the sentence it rests on and with how sure it is; what is unknown is said, and nothing invented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from charforge.character.character import Character

How = Literal["sure", "guessed", "unknown"]
WRITTEN = "you wrote it"


@dataclass(frozen=True)
class Item:
    """One thing that is understood. ``value`` is empty where it is unknown.

    ``evidence`` is the sentence it rests on, "you wrote it", or "the base's answer"; ``confidence`` is from 0 to 1.
    """

    value: str = ""
    evidence: str = ""
    confidence: float = 0.0
    how: How = "unknown"


UNKNOWN = Item()


@dataclass(frozen=True)
class Understanding:
    """What is understood of one character.

    ``class_noun``: "pizza courier". ``pronouns``: "she", "he", "they" or "it". ``language``: ISO 639-1 code.
    ``pictures``: how many of them have a caption, as "8 of 10 pictures have a caption", empty where none has.
    """

    class_noun: Item = UNKNOWN
    pronouns: Item = UNKNOWN
    language: Item = UNKNOWN
    pictures: Item = UNKNOWN


def understand(character: Character) -> Understanding:
    """What the user's own words say of the character, without a base."""
    noun = Item(character.class_noun, WRITTEN, 1.0, "sure") if character.class_noun else UNKNOWN
    language = Item(character.language, "its own lines", 1.0, "sure") if character.language else UNKNOWN
    return Understanding(noun, UNKNOWN, language, _captions(character))


def _captions(character: Character) -> Item:
    """How many pictures have a caption."""
    count, of = sum(picture.caption is not None for picture in character.pictures), len(character.pictures)
    if not count:
        return UNKNOWN
    return Item(f"{count} of {of} pictures have a caption", WRITTEN, 1.0, "sure")
