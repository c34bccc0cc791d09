"""Pictures judged before training: sharp enough, and different enough from each other."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from charforge.character.character import Character
from charforge.character.pictures import load_picture
from charforge.errors import Problem

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

SIDE = 256
"""Sharpness is judged at this size: what is blurred there is blurred for every base."""
BLURRED = 0.12
"""Between sharp pictures (0.20 to 0.47 measured on drawings and photographs) and a blur of 3 pixels (0.06 to 0.13)."""
NEARLY_THE_SAME = 0.02
ALIKE = 0.06
DARK, BRIGHT = 0.08, 0.97
LONG = 2.0
"""Sides. `mini` trains on the middle square: half of such a picture is cut away."""


@dataclass(frozen=True)
class PictureJudgement:
    """Figures of one picture.

    ``sharpness``: steepest edges as a share of the picture's contrast per pixel at ``SIDE``; ``brightness`` 0 to 1;
    ``difference``: mean absolute difference (0 to 1) from ``nearest``, the picture most like it.
    """

    name: str
    width: int
    height: int
    sharpness: float
    brightness: float
    nearest: str
    difference: float


def judge_pictures(character: Character) -> tuple[list[PictureJudgement], list[Problem]]:
    """Figures of every picture, and warnings with what would mend them. Loads and decodes each picture once."""
    import numpy as np

    images = [load_picture(picture.path) for picture in character.pictures]
    names = [picture.name for picture in character.pictures]
    small = np.stack([_thumbnail(image) for image in images]) if images else np.zeros((0, 1))
    apart = np.abs(small[:, None] - small[None]).mean(-1) if len(images) else small
    judged = []
    for number, (name, image) in enumerate(zip(names, images, strict=True)):
        others = [(float(apart[number, other]), names[other]) for other in range(len(names)) if other != number]
        difference, nearest = min(others, default=(1.0, ""))
        judged.append(
            PictureJudgement(
                name,
                *image.size,
                round(sharpness(image), 3),
                round(float(small[number].mean()), 3),
                nearest,
                round(difference, 4),
            )
        )
    files = {picture.name: picture.path.relative_to(character.folder).as_posix() for picture in character.pictures}
    return judged, _problems(judged, files)


def _thumbnail(image: Image) -> np.ndarray:
    """16 x 16 colours of the middle square, flat, 0 to 1."""
    import numpy as np

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize((16, 16))
    return np.asarray(square, np.float32).ravel() / 255


def sharpness(image: Image) -> float:
    """The steepest 0.5 % of the edges as a share of the contrast, per pixel at ``SIDE`` pixels.

    Flat drawings have few edges, but steep ones: an average over the picture would call them blurred.
    """
    import numpy as np

    grey = image.convert("L")
    grey.thumbnail((SIDE, SIDE))
    values = np.asarray(grey, np.float32)
    if min(values.shape) < 3:
        return 0.0
    contrast = float(np.percentile(values, 99) - np.percentile(values, 1))
    down, right = np.gradient(values)
    return float(np.percentile(np.hypot(down, right), 99.5)) / max(contrast, 16.0)


def _problems(judged: Sequence[PictureJudgement], files: dict[str, str]) -> list[Problem]:
    problems = []

    def warn(file: str, problem: str, remedy: str) -> None:
        problems.append(Problem(file, "warning", problem, remedy))

    told: set[str] = set()
    for one in judged:
        file = files[one.name]
        if one.sharpness < BLURRED:
            warn(file, f"is blurred (sharpness {one.sharpness:.2f})", "take a sharper picture: blur is learned too")
        if one.brightness < DARK:
            warn(file, "is nearly black", "use a brighter picture")
        if one.brightness > BRIGHT:
            warn(file, "is nearly white", "use a picture with more in it")
        if max(one.width, one.height) > LONG * min(one.width, one.height):
            warn(file, f"is very long ({one.width} x {one.height})", "crop it around the character")
        if one.difference < NEARLY_THE_SAME and one.nearest not in told:
            told.add(one.name)
            warn(file, f"is nearly the same as {one.nearest}", "replace one of them by another pose or place")
    if len(judged) >= 4 and statistics.median(one.difference for one in judged) < ALIKE:
        warn(
            "images",
            f"the pictures are nearly alike (median difference {statistics.median(o.difference for o in judged):.2f})",
            "add other places, poses, clothes and expressions: what never changes is learned as part of the character",
        )
    return problems
