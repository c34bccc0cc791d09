"""What a character folder holds, as plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from charforge.character.ledger import Ledger
from charforge.character.understanding import Understanding
from charforge.room import SHORT_CONTEXT, Room

Role = Literal["user", "character"]
Voice = Literal["user", "character", "other"]
"""Whose words a line of a file holds; ``other`` is anybody who is neither."""


@dataclass(frozen=True)
class Picture:
    """One picture of the character. ``name`` is the file name without its extension and is unique."""

    name: str
    path: Path
    caption: str | None


@dataclass(frozen=True)
class Turn:
    """One side's words; ``image`` is the name of the picture sent with them."""

    role: Role
    text: str
    image: str | None = None


@dataclass(frozen=True)
class Dialogue:
    """Turns that alternate between user and character; ``origin`` is their place ("dialogues.jsonl:3")."""

    turns: tuple[Turn, ...]
    origin: str


@dataclass(frozen=True)
class Speaker:
    """One who speaks in the user's files, and in how many lines."""

    name: str
    voice: Voice
    lines: int


@dataclass(frozen=True)
class Lore:
    """A sentence that the character knows about somebody or something else. ``subject``: whom it is about.

    ``place`` is where it stands: "lorebook.json:entry 3".
    """

    subject: str
    text: str
    place: str


@dataclass(frozen=True)
class Character:
    """Everything the user told us about one character. ``class_noun`` is what it is: "Shiba Inu dog".

    ``facts`` are about the character, or say themselves whom they are about; ``lore`` is about others. ``cast`` is
    everybody who speaks in the files, ``ledger`` what was taken from them and what was not.
    """

    name: str
    class_noun: str
    persona: str
    voice: str
    appearance: str
    facts: tuple[str, ...]
    opening: str
    author: str
    license: str
    pictures: tuple[Picture, ...]
    dialogues: tuple[Dialogue, ...]
    folder: Path
    card: dict[str, Any] | None = None
    """The document of the card it came from, unknown keys included: an export writes them back."""
    language: str = "en"
    """ISO 639-1 code of the language that it speaks; empty where nobody knows."""
    about: str = ""
    """Everything that a card says of the character, for a base that can read it; else persona and voice are that."""
    room: Room = SHORT_CONTEXT
    """How much of this the base reads: see charforge/bases/context.py."""
    profile_text: str = ""
    """Everything that the files say about the character, line by line as it stands there: what is understood rests on
    it."""
    understanding: Understanding = field(default_factory=Understanding)
    """What it is, how it is spoken of, its language, what its pictures show; each with its evidence."""
    lore: tuple[Lore, ...] = ()
    cast: tuple[Speaker, ...] = ()
    ledger: Ledger = field(default_factory=Ledger, compare=False, repr=False)

    def picture(self, name: str) -> Picture:
        """The picture called ``name``; KeyError when there is none."""
        for picture in self.pictures:
            if picture.name == name:
                return picture
        raise KeyError(f"{self.name} has no picture named {name!r}")
