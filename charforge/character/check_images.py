"""Pictures that turns name: those of the folder, or told."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace

from charforge.character.character import Dialogue, Turn
from charforge.character.notes import Notes


def check_images(dialogues: Iterable[Dialogue], names: list[str], strict: bool, notes: Notes) -> list[Dialogue]:
    """Turns that name a picture nobody sent: an error when ``strict``, else the words are kept without it."""
    known = set(names)
    checked: list[Dialogue] = []
    for dialogue in dialogues:
        if all(turn.image is None or turn.image in known for turn in dialogue.turns):
            checked.append(dialogue)
            continue
        turns: list[Turn] = []
        for turn in dialogue.turns:
            if turn.image is not None and turn.image not in known:
                _tell(turn.image, dialogue.origin, names, strict, notes)
                turn = replace(turn, image=None)
            turns.append(turn)
        checked.append(replace(dialogue, turns=tuple(turns)))
    return checked


def _tell(image: str, origin: str, names: list[str], strict: bool, notes: Notes) -> None:
    if not strict:
        notes.warn(
            origin,
            f"names the picture {image!r}, which nobody sent: the words are kept without it",
            "add the picture, or remove its name",
        )
        return
    near = difflib.get_close_matches(image, names, 1) or [n for n in names if n.lstrip("0") == image][:1]
    remedy = f"did you mean {near[0]!r}?" if near else "add the picture to images/, or remove its name"
    notes.refuse(origin, f"names the picture {image!r}, which nobody sent", remedy)
