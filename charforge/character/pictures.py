"""Pictures of the folder: found, checked, and loaded as upright RGB."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from charforge.character.text_files import outside, shown
from charforge.errors import InputError, Problem

if TYPE_CHECKING:
    from PIL.Image import Image

MIN_SIDE = 64
"""Pixels of the shorter side below which a picture teaches nothing."""
MAX_PIXELS = 64_000_000
"""A header that promises more than this is refused before anything is decoded."""
FORMATS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "WEBP": (".webp",)}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
OTHER_SUFFIXES = (".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".svg", ".apng")


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which "2" comes before "10"."""
    return [(0, int(part), part) if part.isdigit() and part.isascii() else (1, 0, part)
            for part in re.split(r"([0-9]+)", name)]  # fmt: skip


def find_pictures(folder: Path, directory: Path, problems: list[Problem]) -> list[Path]:
    """Picture files directly inside ``directory`` in natural order; what cannot be one is a problem."""
    found: list[Path] = []
    by_name: dict[str, Path] = {}
    for path in sorted(directory.iterdir(), key=lambda path: natural_key(path.name)):
        suffix = path.suffix.lower()
        if path.name.startswith("."):
            continue
        if suffix in OTHER_SUFFIXES:
            problems.append(
                Problem(
                    shown(folder, path),
                    "warning",
                    f"{suffix} pictures are not read",
                    "save it as PNG or JPEG",
                )
            )
        if suffix not in SUFFIXES:
            continue
        refused = outside(folder, path)
        if refused is not None:
            problems.append(refused)
        elif path.stem in by_name:
            problems.append(
                Problem(
                    shown(folder, path),
                    "error",
                    f"has the same name as {by_name[path.stem].name}",
                    "rename one of them: dialogues name a picture without its extension",
                )
            )
        else:
            by_name[path.stem] = path
            found.append(path)
    return found


def _open(path: Path) -> Image:
    """Open by content, header only; raises OSError or ValueError with a sentence."""
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        # our own limit below is stricter than Pillow's warning
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(path, formats=(*FORMATS, "GIF"))
        except Image.DecompressionBombError:
            raise ValueError(f"promises more than {MAX_PIXELS // 10**6} million pixels") from None
        except UnidentifiedImageError:
            raise ValueError("is not a PNG, JPEG or WebP picture, or is damaged") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"promises more than {MAX_PIXELS // 10**6} million pixels")
    return image


def _upright_rgb(image: Image) -> Image:
    from PIL import Image as images
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        import numpy

        # 16-bit grey: Pillow's own conversion would clip at 255
        values = numpy.asarray(image).astype(numpy.int64)
        high = 257 if values.max(initial=0) > 255 or image.mode != "I" else 1
        image = images.fromarray(((values + high // 2) // high).clip(0, 255).astype(numpy.uint8))
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = images.new("RGBA", image.size, (255, 255, 255, 255))
        canvas.alpha_composite(image)
        image = canvas
    return image.convert("RGB")


def load_picture(path: Path) -> Image:
    """The picture as an upright RGB image, transparency on white, 16 bit and CMYK converted.

    Raises InputError when it cannot be read or promises too many pixels.
    """
    try:
        with _open(path) as image:
            return _upright_rgb(image)
    except (OSError, ValueError, SyntaxError, MemoryError) as error:
        problem = Problem(path.name, "error", _sentence(error), "replace the picture")
        raise InputError(f"{path.name} {problem.problem}: {problem.remedy}.", [problem]) from error


def _sentence(error: BaseException) -> str:
    text = str(error).strip()
    return text if text.startswith(("is ", "promises ")) else f"cannot be decoded ({text or type(error).__name__})"


def check_pictures(folder: Path, paths: list[Path]) -> list[Problem]:
    """Look at every picture once, pixels included. Errors stop a training; warnings say what will be done."""
    problems: list[Problem] = []
    seen: dict[str, Path] = {}
    for path in paths:
        problems.extend(_check_one(folder, path, seen))
    return problems


def _lowest_alpha(image: Image) -> float:
    lowest = image.convert("RGBA").getchannel("A").getextrema()[0]
    assert isinstance(lowest, int | float)
    return lowest


def _check_one(folder: Path, path: Path, seen: dict[str, Path]) -> list[Problem]:
    name = shown(folder, path)
    problems: list[Problem] = []
    try:
        with _open(path) as image:
            kind, mode, frames = image.format or "?", image.mode, getattr(image, "n_frames", 1)
            if frames > 1:
                return [Problem(name, "error", f"is animated ({frames} frames)", "save one frame as PNG or JPEG")]
            if kind not in FORMATS:
                return [Problem(name, "error", f"is a {kind} picture", "save it as PNG, JPEG or WebP")]
            turned = image.getexif().get(0x0112, 1) not in (0, 1)
            has_alpha = "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info
            see_through = has_alpha and _lowest_alpha(image) < 255
            rgb = _upright_rgb(image)
    except (OSError, ValueError, SyntaxError, MemoryError) as error:
        return [Problem(name, "error", _sentence(error), "replace or remove the picture")]
    if path.suffix.lower() not in FORMATS[kind]:
        right = FORMATS[kind][0]
        problems.append(
            Problem(name, "warning", f"is a {kind} picture, not {path.suffix}", f"rename it to {path.stem}{right}")
        )
    if min(rgb.size) < MIN_SIDE:
        problems.append(
            Problem(
                name,
                "error",
                f"is tiny ({rgb.width} x {rgb.height} pixels)",
                f"use a picture of at least {MIN_SIDE} x {MIN_SIDE} pixels",
            )
        )
    nothing = "nothing to do; the file stays as it is"
    if turned:
        problems.append(Problem(name, "warning", "is turned by its EXIF tag and is used upright", nothing))
    if see_through:
        problems.append(Problem(name, "warning", "is transparent in places and is put on white", nothing))
    if mode == "CMYK":
        problems.append(Problem(name, "warning", "is CMYK and is converted to RGB", nothing))
    if mode.startswith("I"):
        problems.append(Problem(name, "warning", "has 16 bits a channel and is brought to 8", nothing))
    key = hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).hexdigest()
    if key in seen:
        problems.append(Problem(name, "error", f"is the same picture as {seen[key].name}", "remove one of the two"))
    seen.setdefault(key, path)
    return problems
