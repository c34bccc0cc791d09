"""What is understood of a character before anything is trained: what it is, its pronouns, its language, its pictures.

Every item stands with the sentence it rests on and with how sure it is; what is unknown is said, and nothing invented.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from charforge.character.kinds import SURE, Claim, kind_of
from charforge.character.language import language_of
from charforge.character.pronouns import pronouns_of

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


def understand(character: Character, breed: str = "") -> Understanding:
    """What the user's own words say of the character, without a base.

    ``character.class_noun`` is what the user wrote, or empty; ``breed`` is what a field of its own declares.
    """
    name = character.name
    text = character.profile_text or "\n".join((character.persona, character.appearance, *character.facts))
    captions = [picture.caption for picture in character.pictures if picture.caption]
    if character.class_noun:
        noun = Item(character.class_noun, WRITTEN, 1.0, "sure")
    else:
        noun = _item(kind_of(name, text, breed, captions))
    pronouns = _item(pronouns_of(name, text, noun.value, _tags(character)))
    return Understanding(noun, pronouns, _language(character), _captions(character))


def understood(character: Character, breed: str = "") -> Character:
    """The character with what :func:`understand` makes of it, in the places from which everything reads it."""
    told = understand(character, breed)
    # a guess from a few words must not silence the template: only a language that is sure decides
    language = told.language.value if told.language.how == "sure" else ""
    return replace(character, class_noun=told.class_noun.value, language=language, understanding=told)


def _item(claim: Claim | None) -> Item:
    if claim is None:
        return UNKNOWN
    return Item(claim.noun, claim.evidence, claim.confidence, "sure" if claim.confidence >= SURE else "guessed")


def _tags(character: Character) -> list[str]:
    data = (character.card or {}).get("data")
    tags = data.get("tags") if isinstance(data, dict) else None
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def _language(character: Character) -> Item:
    """By its own lines; by the prose about it where there are too few."""
    lines = [turn.text for dialogue in character.dialogues for turn in dialogue.turns if turn.role == "character"]
    for told, of in ((lines, "its own lines"), ([character.persona, character.voice], "its profile")):
        code, confidence = language_of(" ".join(told))
        if code:
            first = next(text for text in told if text.strip())
            how: How = "sure" if confidence >= SURE else "guessed"
            return Item(code, f"{of}: {first}", round(confidence, 2), how)
    return UNKNOWN


def _captions(character: Character) -> Item:
    """How many pictures have a caption."""
    count, of = sum(picture.caption is not None for picture in character.pictures), len(character.pictures)
    if not count:
        return UNKNOWN
    return Item(f"{count} of {of} pictures have a caption", WRITTEN, 1.0, "sure")
