"""Draws the ten pictures of Wren with the renderer of the embedded base, and their captions.

    python docs/studies/draw_wren.py

Needs the extra ``recipe``. The same input gives the same pixels.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from charforge.recipe.captions import named_caption
from charforge.recipe.drawing import draw
from charforge.recipe.world import Look

NAME = "Wren"
WREN = Look(
    kind="person", skin="brown", hair="twinTails", hair_color="green", glasses="round", pants="blue", shoes="orange",
    eyes="open", mouth="smile", outfit="plain", outfit_color="blue",
)  # fmt: skip
# ten different moods, clothes and places; what is left out stays for prompts that nobody trained on
SCENES: tuple[dict[str, object], ...] = (
    {"eyes": "open", "mouth": "smile", "outfit": "overalls", "outfit_color": "yellow", "place": "workshop"},
    {"eyes": "happy", "mouth": "laugh", "outfit": "hoodie", "outfit_color": "orange", "background": "sky blue"},
    {"eyes": "wide", "mouth": "ooh", "outfit": "plain", "outfit_color": "red", "place": "meadow", "shoes": "white"},
    {"eyes": "sleepy", "mouth": "flat", "outfit": "coat", "outfit_color": "brown", "place": "rain", "shoes": "black"},
    {"eyes": "open", "mouth": "grin", "outfit": "overalls", "outfit_color": "white", "background": "cream",
     "thing": "wrench", "side": "holding"},
    {"eyes": "side", "mouth": "smirk", "outfit": "stripes", "outfit_color": "purple", "place": "library",
     "pants": "gray"},
    {"eyes": "happy", "mouth": "smile", "outfit": "dress", "outfit_color": "red", "background": "lavender"},
    {"eyes": "closed", "mouth": "flat", "outfit": "hoodie", "outfit_color": "teal", "place": "bedroom",
     "pants": "black", "thing": "teapot", "side": "beside"},
    {"eyes": "open", "mouth": "frown", "outfit": "jacket", "outfit_color": "black", "place": "city", "shoes": "red"},
    {"eyes": "star", "mouth": "laugh", "outfit": "plain", "outfit_color": "pink", "place": "sunset",
     "thing": "robot", "side": "beside"},
)  # fmt: skip


def looks() -> list[Look]:
    """The ten looks in order."""
    return [replace(WREN, variation=7 * (number + 1), **scene) for number, scene in enumerate(SCENES)]  # type: ignore[arg-type]


def caption(look: Look) -> str:
    """What varies in the picture; name and class are added by the pipeline."""
    return named_caption(look, NAME).split(", ", 2)[2]


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the example character.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "examples" / "wren" / "images")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number, look in enumerate(looks(), start=1):
        draw(look, 512).save(arguments.out / f"{number:02d}.png", optimize=True)
        (arguments.out / f"{number:02d}.txt").write_text(caption(look) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
