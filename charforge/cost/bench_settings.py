"""The shapes that can be measured without their weights, and the settings they are measured with."""

from __future__ import annotations

from pathlib import Path

from charforge.bases.base import MINI
from charforge.errors import InputError
from charforge.families import FAMILIES, family_of
from charforge.families.protocol import Family, Shapes
from charforge.resources import preset_path
from charforge.settings import Settings, read_settings

NAMES = ("bagel", "mini", "small")
SIDE, QUICK_SIDE = 512, 128
"""Pixels a side of the pictures that are drawn, where the shape draws that large."""


def shapes_to_measure(name: str, quick: bool = False) -> tuple[Family, Shapes]:
    """The shapes of ``bagel``, ``mini``, ``small`` or of a base folder, set to draw squares of ``SIDE``.

    Smaller where the shape draws no larger. Raises InputError for an unknown name or an unreadable folder.
    """
    family, shapes = _named(name)
    side = min(QUICK_SIDE if quick else SIDE, shapes.largest_side)
    return family, shapes.with_picture_sizes(None, None, side, None)


def _named(name: str) -> tuple[Family, Shapes]:
    if name == "mini" or Path(name).is_dir():
        folder = MINI if name == "mini" else Path(name)
        family = family_of(folder)
        return family, family.read_shapes(folder)
    for family in FAMILIES:
        if (shapes := family.for_measuring(name)) is not None:
            return family, shapes
    raise InputError(f"--base {name}: use {', '.join(NAMES)}, or the folder of a base")


def bench_settings(name: str, preset: str | None, quick: bool) -> Settings:
    """The settings of ``preset`` (by default the preset ``mini`` for that base, built-in defaults for others).

    Batches are the bench's own: one group of pictures (of four when ``quick``), no anchor, no caption dropped.
    """
    chosen = preset or ("mini" if name == "mini" else None)
    settings = read_settings(preset_path(chosen), None, []) if chosen else Settings()
    grpo: dict[str, object] = {"prompts": 1, "updates": 1, "anchor": 0.0, "algorithm": "grpo", "warmup": 0}
    if quick:
        grpo["group"] = 4
    sft = {"caption_dropout": 0.0, "warmup": 0, "draws": 1}
    own = {"grpo": settings.grpo.model_copy(update=grpo), "sft": settings.sft.model_copy(update=sft)}
    return settings.model_copy(update=own)
