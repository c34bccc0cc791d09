"""How like a character any picture is: the pictures to compare with, from a bundle or a folder."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from charforge.bundle import Bundle
from charforge.bundle.manifest import AVATAR
from charforge.character import load_picture
from charforge.character.picture_kinds import readable_suffixes
from charforge.errors import InputError
from charforge.evaluate.identity import Scale, likeness, likeness_scale
from charforge.judges.encoders import Encoder, encoded
from charforge.judges.likeness import FEWEST_REFERENCES
from charforge.pixels import initial, to_pixels, to_rgb

LARGEST = 64_000_000
"""Pixels of a picture in a bundle: more is refused before it is decoded."""
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Likeness:
    """``likeness`` of one picture to the reference ``nearest``, a cosine; see :func:`evaluate.identity.likeness`."""

    likeness: float
    nearest: str


@dataclass(frozen=True)
class Judged:
    """What each picture scored, and the marks on the same scale; None with fewer than three references."""

    pictures: dict[str, Likeness]
    scale: Scale | None


def bundle_pictures(bundle: Bundle) -> dict[str, Image.Image]:
    """The pictures of the character in a bundle by their names in it: its avatar, and whatever else it carries.

    An avatar that is the initial on grey shows nobody and is left out. Raises InputError for a picture that cannot be
    read: a bundle is anybody's.
    """
    found = {}
    for name, data in bundle.contents.items():
        if PurePosixPath(name).suffix.lower() in _SUFFIXES:
            found[name] = _opened(bundle.path, name, data)
    plain = to_rgb(initial(bundle.manifest.character.name))
    if AVATAR in found and found[AVATAR].size == plain.size and found[AVATAR].tobytes() == plain.tobytes():
        del found[AVATAR]
    return found


def _opened(path: Path, name: str, data: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            if image.width * image.height > LARGEST:
                raise InputError(f"{path}: the picture {name} is larger than {LARGEST // 1_000_000} million pixels")
            return to_rgb(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: the picture {name} cannot be read; give real pictures with --references") from error


def folder_pictures(folder: Path) -> dict[str, Image.Image]:
    """The pictures that lie directly in ``folder`` or in its folder images/, by file name.

    Raises InputError where there is none, and for one that cannot be read.
    """
    place = folder / "images" if (folder / "images").is_dir() else folder
    if not place.is_dir():
        raise InputError(f"--references {folder}: there is no such folder; name one with pictures of the character")
    read = readable_suffixes()
    files = sorted(path for path in place.iterdir() if path.is_file() and path.suffix.lower() in read)
    if not files:
        raise InputError(f"--references {folder}: it holds no pictures; name a folder that does")
    return {path.name: load_picture(path) for path in files}


def judge_likeness(
    encoder: Encoder, references: Mapping[str, Image.Image], pictures: Mapping[str, Image.Image]
) -> Judged:
    """How like the character of ``references`` each picture is. Raises ValueError without references."""
    if not references:
        raise ValueError("there is nothing to compare with")
    own = [to_pixels(image, image.size) for image in references.values()]
    features = encoded(encoder.encode, [to_pixels(image, image.size) for image in pictures.values()])
    best, which = likeness(features, encoded(encoder.encode, own))
    names = list(references)
    told = {
        file: Likeness(round(value, 4), names[number])
        for file, value, number in zip(pictures, best.tolist(), which.tolist(), strict=True)
    }
    return Judged(told, likeness_scale(encoder.encode, own))


def missing_references(references: Sequence[str]) -> str | None:
    """In one line what would make the number worth more; None where nothing is missing."""
    if list(references) == [AVATAR]:
        return (
            "the bundle carries no picture of the character but its avatar, which the model drew itself: give real "
            "ones with --references FOLDER"
        )
    if len(references) < FEWEST_REFERENCES:
        few = f"with fewer than {FEWEST_REFERENCES} references nobody knows what is usual"
        return f"{few}: give more with --references FOLDER"
    return None
