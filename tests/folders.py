"""A small character folder, written from scratch: what the tests of the first rooms read."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageDraw

from charforge.character import read_folder
from charforge.errors import Problem

CHARACTER_MD = """---
name: Pip
class: clay robot
author: a test
license: CC0-1.0
opening: "Beep and good morning! Pip has the kettle on."
---
# Pip

Pip is a small clay robot who runs a tea cart at the edge of a foggy harbour.
Pip collects lost buttons and counts everything twice.

## Voice
Speaks in short, warm sentences, and ends many of them with "beep".

## Appearance
Pip has round brown shoulders and two copper ears.
"""
FACTS = """# Facts
- Pip was built by a potter named Ottoline.
- Pip lives in a tea cart by the harbour.
- Pip never drinks coffee.
- Pip's best friend is a gull called Admiral Crumb.
- Pip collects lost buttons.
- Age: nine years
- The tea cart has three wheels and a bell.
"""
CAPTIONS = [
    "smiling, wearing a blue scarf, in a workshop",
    "sad, wearing a red hat, on a beach",
    "smiling, holding a teacup, in a kitchen",
    "surprised, wearing a yellow raincoat, on a street",
    "sleeping, with a lantern, in a forest",
    "waving, wearing a blue scarf, in a meadow",
    "smiling, holding a red umbrella, on a mountain",
    "winking, wearing a green apron, in a library",
    "crying, with a broken wheel, in a desert",
    "laughing, wearing a red hat, under a starry sky",
]
REPLIES = [
    ("What are you brewing today?", "Fog tea. It tastes of mornings, beep.", None),
    ("Do you ever get lonely out here?", "Lonely? I have four hundred and six buttons, beep.", None),
    ("May I have a cup of tea?", "One cup, warm side up. Careful, beep.", "03"),
    ("Where did you find that umbrella?", "The sea gave it back. I said thank you twice, beep.", "07"),
    ("Can you help me find my hat?", "I counted two hats this week. Yours had a sad ribbon, beep.", "02"),
    ("Why is the harbour so quiet?", "The gulls hold a meeting. They never invite me, beep.", None),
    ("Are you afraid of the rain?", "Rain and clay are careful friends. I wear my yellow coat, beep.", "04"),
    ("What do you count at night?", "Stars, then buttons, then stars again, beep.", "10"),
    ("Did the cart break down again?", "One wheel went to live by itself. I forgive it, beep.", "09"),
    ("What is the best button you own?", "A brass one. It remembers a captain, beep.", None),
    ("Will you close the cart early?", "Only when the fog asks politely, beep.", None),
    ("Who taught you to make tea?", "Ottoline, with clay on her elbows, beep.", None),
]


def drawing(number: int, size: int = 80) -> Image.Image:
    """A picture unlike those of other numbers."""
    image = Image.new("RGB", (size, size), (20 * number % 256, 90, 200 - 15 * number % 200))
    ImageDraw.Draw(image).ellipse((10 + number, 20, 50 + number, 60), fill=(150, 90, 60))
    return image


def dialogue_line(asked: str, reply: str, image: str | None = None) -> str:
    """One line of dialogues.jsonl."""
    said: dict[str, str] = {"role": "character", "text": reply}
    if image is not None:
        said["image"] = image
    return json.dumps({"turns": [{"role": "user", "text": asked}, said]})


def make_folder(folder: Path, pictures: int = 10) -> Path:
    """Write Pip's folder: nothing in it is wrong when there are ten pictures."""
    (folder / "images").mkdir(parents=True)
    (folder / "character.md").write_text(CHARACTER_MD, encoding="utf-8")
    (folder / "facts.md").write_text(FACTS, encoding="utf-8")
    lines = [dialogue_line(asked, said, image) for asked, said, image in REPLIES]
    (folder / "dialogues.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number, caption in enumerate(CAPTIONS[:pictures], start=1):
        drawing(number).save(folder / "images" / f"{number:02d}.png")
        (folder / "images" / f"{number:02d}.txt").write_text(caption, encoding="utf-8")
    return folder


def check_character(folder: Path | str) -> list[Problem]:
    """Everything wrong with a folder, errors first; empty when there is nothing to say."""
    return list(read_folder(folder).problems)
