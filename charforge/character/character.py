"""What a character folder holds, as plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Role = Literal["user", "character"]


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
class Character:
    """Everything the user told us about one character. ``class_noun`` is what it is: "Shiba Inu dog"."""

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

    def picture(self, name: str) -> Picture:
        """The picture called ``name``; KeyError when there is none."""
        for picture in self.pictures:
            if picture.name == name:
                return picture
        raise KeyError(f"{self.name} has no picture named {name!r}")
