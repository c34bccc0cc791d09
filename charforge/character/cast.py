"""A folder of character folders: who is in it."""

from __future__ import annotations

import os
from pathlib import Path

from charforge.character.contents import CHATS, contents_of
from charforge.character.layouts import rolescape_folder
from charforge.character.listing import is_system_name, natural_key
from charforge.character.notes import Notes
from charforge.character.picture_folder import PLACES
from charforge.character.results import is_result


def is_character_folder(folder: Path) -> bool:
    """Whether something in ``folder`` says who the character is; what it says may still be wrong."""
    if not _is_open(folder):
        return False
    contents = contents_of(folder, Notes())
    return contents.character is not None or bool(contents.cards) or rolescape_folder(folder) is not None


def characters_in(folder: Path) -> list[Path]:
    """The folders inside ``folder`` where at least one of them is a character's and ``folder`` itself is none; else
    empty.

    In natural order. A folder among them that is no character's is listed too, so that it is told of and not passed
    over; folders of runs and hidden ones are not. A folder with pictures or chats of its own is that of one character,
    whatever it lacks.
    """
    if not _is_open(folder) or is_character_folder(folder):
        return []
    inside = [path for path in folder.iterdir() if path.is_dir() and not is_system_name(path.name)]
    if any(path.name.lower() in (*PLACES, *CHATS) for path in inside):
        return []
    inside = [path for path in sorted(inside, key=lambda path: natural_key(path.name)) if not is_result(path)]
    return inside if any(is_character_folder(path) for path in inside) else []


def _is_open(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)
