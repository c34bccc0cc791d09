"""A look as pixels: DiceBear parts over a background or place, with a thing in front.

Needs the ``recipe`` extra (dicebear, cairosvg); the product itself never draws this way.
"""

from __future__ import annotations

import io
import json
import math
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

from charforge.recipe import world
from charforge.recipe.places import place_svg
from charforge.recipe.world import Kind, Look

# a colour no part uses, to find the background rectangle by
BACKGROUND_MARK = "#010203"
THING_SIDE = 32
"""Side of the box in which a thing's body is drawn."""
Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of a picture of 128 x 128."""
FACE_BOX: Box = (24, 48, 80, 48)
TOP_BOX: Box = (24, 16, 80, 48)
"""Where faces and creatures' tops are."""

STYLE: dict[Kind, str] = {
    "person": "voxel-art",
    "critter": "critters",
    "clay": "clay",
    "sprout": "sprouts",
    "robot": "voxel-bot",
}


def draw(look: Look, size: int = 128) -> Image.Image:
    """The picture of ``look``."""
    import cairosvg

    png = cairosvg.svg2png(svg(look).encode(), output_width=size, output_height=size)
    return Image.open(io.BytesIO(png)).convert("RGB")


def svg(look: Look) -> str:
    """The whole scene as one SVG document."""
    if look.place:
        behind = place_svg(look.place, look.variation)
    else:
        behind = f'<rect width="128" height="128" fill="{world.BACKGROUNDS[look.background]}"/>'
    front = ""
    if look.thing:
        x, y, side, _ = thing_boxes(look.side)[0 if look.thing_left else 1]
        front = f'<g transform="translate({x} {y}) scale({side / THING_SIDE})">{read_things()[look.thing]}</g>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128">'
        + behind
        + character_svg(look)
        + front
        + "</svg>"
    )


def thing_boxes(side: str) -> tuple[Box, Box]:
    """Where a thing is, left and right: held ones overlap the body, others stand clear."""
    if side == "holding":
        return (26, 80, 36.8, 36.8), (66, 80, 36.8, 36.8)
    return (1, 84, 40, 40), (87, 84, 40, 40)


def box_tokens(box: Box, side: int) -> list[int]:
    """The tokens that a box touches, of ``side`` x ``side`` in rows."""
    x, y, width, height = box
    token = 128 / side
    rows = range(int(y / token), math.ceil((y + height) / token))
    columns = range(int(x / token), math.ceil((x + width) / token))
    return [row * side + column for row in rows for column in columns]


def character_svg(look: Look) -> str:
    """The character alone on transparent ground, as a nested svg element filling the box."""
    from dicebear import Avatar

    options: dict[str, Any] = {"seed": "charforge", "backgroundColor": [BACKGROUND_MARK], **_options(look)}
    text = str(Avatar(_style(STYLE[look.kind]), options).to_json()["svg"])
    text = re.sub(r"<metadata.*?</metadata>", "", text, flags=re.S)
    # the style paints its own background first; cairosvg does not know transparent hex colours
    text = re.sub(rf'<rect width="\d+" height="\d+" fill="{BACKGROUND_MARK}"/>', "", text)
    inset = {"person": (8, 12, 112), "robot": (8, 12, 112)}.get(look.kind, (14, 22, 100))
    x, y, side = inset
    return text.replace(
        "<svg ", f'<svg x="{x}" y="{y}" width="{side}" height="{side + 4}" preserveAspectRatio="xMidYMax meet" ', 1
    )


def _options(look: Look) -> dict[str, Any]:
    options: dict[str, Any] = {"eyesVariant": look.eyes, "mouthVariant": look.mouth, "animationVariant": "none"}
    if look.kind == "person":
        kind_of_color = world.OUTFITS[look.outfit][0]
        outfit = world.CLOTH[look.outfit_color]
        hats = look.hair in world.HATS
        return options | {
            "skinColor": [world.SKIN[look.skin]],
            "topVariant": look.hair, "topProbability": 100,
            "hairColor": ["#6b3f27" if hats else world.HAIR[look.hair_color]],
            "hatColor": [world.CLOTH[look.hair_color] if hats else "#ffffff"],
            "glassesProbability": 100 if look.glasses else 0,
            **({"glassesVariant": look.glasses} if look.glasses else {}),
            "beardProbability": 100 if look.beard else 0,
            **({"beardVariant": look.beard} if look.beard else {}),
            "cheeksProbability": 0, "eyebrowsProbability": 100, "eyebrowsVariant": "soft", "noseVariant": "small",
            "outfitVariant": look.outfit,
            "shirtColor": [outfit if kind_of_color == "shirt" else "#f4f5f7"],
            "jacketColor": [outfit if kind_of_color == "jacket" else "#343a40"],
            "pantsColor": [world.PANTS[look.pants]], "shoesColor": [world.SHOES[look.shoes]],
        }  # fmt: skip
    if look.kind == "robot":
        return options | {
            "bodyColor": [world.METAL[look.body_color]], "glowColor": [world.GLOW[look.accent]],
            "chestVariant": look.body, "chestProbability": 100, "accentColor": ["#343a40"], "screenColor": ["#161a21"],
            "topVariant": look.top or "antenna", "topProbability": 100 if look.top else 0,
        }  # fmt: skip
    common = {"patternProbability": 0, "cheeksProbability": 0}
    if look.kind == "sprout":
        return options | common | {
            "potVariant": look.body, "potColor": [world.BODY[look.body_color]], "plantVariant": look.top,
            "plantColor": ["#34b864"], "bloomColor": [world.BLOOM[look.accent]],
        }  # fmt: skip
    colors = world.BODY if look.kind == "critter" else world.CLAY
    common.pop("cheeksProbability" if look.kind == "clay" else "", None)
    return options | common | {
        "bodyVariant": look.body, "bodyColor": [colors[look.body_color]], "accentColor": [colors[look.accent]],
        "topVariant": look.top or "horns", "topProbability": 100 if look.top else 0,
    }  # fmt: skip


@cache
def _style(name: str) -> Any:
    from dicebear import Style

    return Style(json.loads((files("dicebear_styles") / f"{name}.json").read_text("utf-8")))


@cache
def read_things() -> dict[str, str]:
    """The SVG bodies (32 x 32) of the things `mini` knows: Fluent Emoji, MIT."""
    return json.loads((Path(__file__).parent / "things.json").read_text("utf-8"))["bodies"]
