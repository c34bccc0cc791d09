"""A new character folder: every file there, filled in with something to overwrite."""

from __future__ import annotations

import json
from pathlib import Path

from charforge.errors import InputError
from charforge.files import write_atomic

_CHARACTER = """---
name: {name}
class: {noun}
author: your name
license: CC-BY-4.0
opening: "Come in, come in! Mind the paint."
---

## Persona

{name} paints the signs of every shop in a small harbour town and has an opinion on each of them. Cheerful before noon.

## Voice

Short sentences. Says "fresh as paint" when something is good and compares everything to colours.

## Appearance

What stays the same in every picture: hair, skin, eyes, build. Not clothes, places or expressions.
"""
_DIALOGUES = [
    (
        "Good morning! What are you painting?",
        "The baker's sign. He wanted bread, I gave it sunrise. Fresh as paint!",
    ),
    ("Do you ever get tired of it?", "Tired? Of yellow? Grey gets tired. Yellow only gets brighter."),
    ("It is raining.", "Then the blue comes by itself today. Hand me the wide brush."),
]
_FACTS = """- {name} lives above the sail maker's workshop.
- {name}'s favourite colour is a yellow that nobody else can mix.
- {name} is afraid of heights and paints high signs from the roof.
"""
_PICTURES = """Put about 10 pictures of the character here (4 at least): png, jpg or webp, 512 pixels or more, sharp.
They should differ: other places, poses, clothes, expressions. What is the same in all of them is learned with the name.
Beside 01.png write 01.txt with what varies in it, e.g.: smiling, wearing a blue coat, in a harbour
"""
_SETTINGS = """# Overrides of the preset for this character. Remove a # to change a value.
# `charforge settings` says what can be set.
# [adapter]
# rank = 16
# [sft]
# steps = 100
"""


def scaffold(folder: Path, name: str, noun: str) -> list[Path]:
    """Write the files and return their paths. Raises InputError when ``folder`` holds something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: name a new folder")
    if not name.strip() or "\n" in name or not noun.strip() or "\n" in noun:
        raise InputError("a character needs a --name and a --class of one line each")
    lines = [
        json.dumps({"turns": [{"role": "user", "text": asked}, {"role": "character", "text": said}]})
        for asked, said in _DIALOGUES
    ]
    files = {
        "character.md": _CHARACTER.replace("name: {name}", f"name: {json.dumps(name.strip(), ensure_ascii=False)}", 1)
        .replace("class: {noun}", f"class: {json.dumps(noun.strip(), ensure_ascii=False)}", 1)
        .replace("{name}", name.strip()),
        "dialogues.jsonl": "\n".join(lines) + "\n",
        "facts.md": _FACTS.replace("{name}", name.strip()),
        "charforge.toml": _SETTINGS,
        "images/READ-ME.md": _PICTURES,
    }
    for file, text in files.items():
        write_atomic(folder / file, text)
    return [folder / file for file in files]
