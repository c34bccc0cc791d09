"""Pictures: opened by what they are and not by what they are called, checked, and made upright sRGB."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from charforge.character.ledger import Entry, changed, passed_over
from charforge.character.picture_kinds import FORMATS, what_it_is
from charforge.character.text_files import shown
from charforge.errors import InputError, Problem

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsProfile

MIN_SIDE = 64
"""Pixels of the shorter side below which a picture teaches nothing."""
MAX_PIXELS = 64_000_000
"""A header that promises more than this is refused before anything is decoded."""
MAX_MOVING_PIXELS = 500_000_000
"""Of all frames together: so many are looked at to see whether anything moves."""
SAME_COLOUR = 2
"""Steps of 255. A profile that moves no colour further than this is sRGB under another name."""


@dataclass(frozen=True)
class Prepared:
    """A picture as it is used (RGB, 8 bits, upright) and what was done to the file's own to get there."""

    image: Image
    format: str
    changes: tuple[str, ...]


class _Refused(Exception):
    """Why a picture is not used, and what to do about it."""

    def __init__(self, problem: str, remedy: str = "replace or remove the picture") -> None:
        super().__init__(problem)
        self.remedy = remedy


def load_picture(path: Path) -> Image:
    """The picture as an upright sRGB image of 8 bits a channel, transparency on white.

    Raises InputError when it cannot be read, moves, or promises too many pixels.
    """
    try:
        return _prepare(path).image
    except _Refused as refused:
        problem = Problem(path.name, "error", str(refused), refused.remedy)
        raise InputError(f"{path.name} {problem.problem}: {problem.remedy}.", [problem]) from refused


def check_pictures(
    folder: Path, paths: Iterable[Path], cards: Collection[Path] = ()
) -> tuple[list[Problem], list[Entry]]:
    """Look at every picture once, pixels included: problems, and what is changed before a picture is used.

    Errors stop a training; warnings say what will be done. Where one of ``cards`` shows the same as another picture,
    it is passed over as a picture.
    """
    problems: list[Problem] = []
    entries: list[Entry] = []
    seen: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: path in cards):
        name = shown(folder, path)
        try:
            prepared = _prepare(path)
        except _Refused as refused:
            problems.append(Problem(name, "error", str(refused), refused.remedy))
            continue
        key = hashlib.sha256(f"{prepared.image.size}".encode() + prepared.image.tobytes()).hexdigest()
        if key in seen and path in cards:
            reason = f"is the character card, and the same picture as {seen[key].name}"
            entries.append(passed_over(name, "", "picture", path.name, reason))
            continue
        if key in seen:
            problems.append(Problem(name, "error", f"is the same picture as {seen[key].name}", "remove one of the two"))
        seen.setdefault(key, path)
        problems += _judged(name, path, prepared)
        for change in prepared.changes:
            problems.append(Problem(name, "warning", change, "nothing to do; the file stays as it is"))
            entries.append(changed(name, "", "picture", change))
    return problems, entries


def _judged(name: str, path: Path, prepared: Prepared) -> list[Problem]:
    problems: list[Problem] = []
    image, suffixes = prepared.image, FORMATS[prepared.format]
    if path.suffix.lower() not in suffixes:
        told = f"is a {prepared.format} picture, not {path.suffix or 'without an extension'}"
        problems.append(Problem(name, "warning", told, f"rename it to {path.stem}{suffixes[0]}"))
    if min(image.size) < MIN_SIDE:
        told = f"is tiny ({image.width} x {image.height} pixels)"
        problems.append(Problem(name, "error", told, f"use a picture of at least {MIN_SIDE} x {MIN_SIDE} pixels"))
    return problems


def _prepare(path: Path) -> Prepared:
    """Open, check and convert; raises _Refused with the reason."""
    if not path.is_file():
        # a pipe or a device would never end
        raise _Refused("is not a plain file", "replace it by a file, or remove it")
    try:
        with path.open("rb") as file:
            # the decoder gets the file that was looked at, not a name that may lead elsewhere by then
            head = file.read(64)
            known = what_it_is(head)
            if known.remedy:
                raise _Refused(known.problem, known.remedy)
            file.seek(0)
            return _decoded(file, known.plugin)
    except _Refused:
        raise
    except OSError as error:
        raise _Refused(f"cannot be read ({error.strerror or error})", "make the file readable for you") from error


def _decoded(file: io.BufferedReader, plugin: str) -> Prepared:
    from PIL import Image

    if plugin == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        with warnings.catch_warnings():
            # our own limit below is stricter than Pillow's warning; damaged tags are told by what follows from them
            warnings.simplefilter("ignore")
            with Image.open(file, formats=(plugin, "MPO") if plugin == "JPEG" else (plugin,)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                return _as_used(image)
    except _Refused:
        raise
    except Image.DecompressionBombError:
        limit = f"promises more than {MAX_PIXELS // 10**6} million pixels"
        raise _Refused(limit, "replace or remove the picture: 4096 pixels a side are plenty") from None
    except MemoryError as error:
        raise _Refused("does not fit into memory", "save it smaller: 4096 pixels a side are plenty") from error
    except Exception as error:
        # decoders of damaged files raise whatever their parsers meet (struct.error, KeyError, SyntaxError, ...)
        if "truncated" in str(error):
            raise _Refused("is cut off: the end of the file is missing", "copy it again, or remove it") from error
        raise _Refused(_why(error, plugin)) from error


def _why(error: Exception, plugin: str) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"is a damaged {plugin} picture"
    text = " ".join(str(error).split())
    return f"cannot be decoded ({text or type(error).__name__})"


def _as_used(image: Image) -> Prepared:
    """One frame, upright, sRGB, 8 bits, on white, with a phrase for everything that was done."""
    kind, changes = image.format or "", []
    if kind in ("MPO", "TIFF") and getattr(image, "n_frames", 1) > 1:
        # a phone keeps a second view or a smaller copy behind the picture; a TIFF has pages
        changes.append(f"holds {getattr(image, 'n_frames', 1)} pictures, of which the first is used")
    elif getattr(image, "n_frames", 1) > 1 and _moves(image):
        raise _Refused(f"is animated ({getattr(image, 'n_frames', 1)} frames)", "save one frame as PNG or JPEG")
    image.seek(0)
    image.load()
    profile, mode = image.info.get("icc_profile"), image.mode
    image, told = _upright(image)
    changes += told
    if mode.startswith("I"):
        image = _eight_bits(image)
        changes.append("has 16 bits a channel and is brought to 8")
    image, told = _in_srgb(image, profile)
    changes += told
    if mode == "CMYK":
        changes.append("is CMYK and is converted to RGB")
    image, told = _on_white(image)
    return Prepared(image.convert("RGB"), "JPEG" if kind == "MPO" else kind, (*changes, *told))


def _moves(image: Image) -> bool:
    """Whether any two frames differ. Too many pixels to look at count as moving."""
    # an animated PNG may carry a still picture for programs that cannot play it: that one is no frame
    first = 1 if image.info.get("default_image") else 0
    frames = getattr(image, "n_frames", 1)
    if (frames - first) * image.width * image.height > MAX_MOVING_PIXELS:
        return True
    image.seek(first)
    shown_first = image.convert("RGBA").tobytes()
    for number in range(first + 1, frames):
        image.seek(number)
        if image.convert("RGBA").tobytes() != shown_first:
            return True
    return False


def _upright(image: Image) -> tuple[Image, list[str]]:
    from PIL import ImageOps

    try:
        turned = image.getexif().get(0x0112, 1) not in (0, 1)
        if not turned:
            return image, []
        return ImageOps.exif_transpose(image), ["is turned by its EXIF tag and is used upright"]
    except Exception:
        # parsers of EXIF raise whatever they meet; the pixels are whole all the same
        return image, ["has damaged EXIF data and is used as it lies"]


def _eight_bits(image: Image) -> Image:
    """16-bit grey as 8-bit grey: Pillow's own conversion would clip at 255."""
    import numpy
    from PIL import Image as images

    values = numpy.asarray(image).astype(numpy.int64)
    high = 257 if values.max(initial=0) > 255 or image.mode != "I" else 1
    return images.fromarray(((values + high // 2) // high).clip(0, 255).astype(numpy.uint8))


def _has_alpha(image: Image) -> bool:
    return "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info


def _on_white(image: Image) -> tuple[Image, list[str]]:
    from PIL import Image as images

    if not _has_alpha(image):
        return image, []
    image = image.convert("RGBA")
    lowest, highest = image.getchannel("A").getextrema()
    if highest == 0:
        raise _Refused("is wholly transparent: nothing can be seen", "save it again without transparency, or remove it")
    canvas = images.new("RGBA", image.size, (255, 255, 255, 255))
    canvas.alpha_composite(image)
    return canvas, ["is transparent in places and is put on white"] if lowest != 255 else []


def _in_srgb(image: Image, profile: bytes | None) -> tuple[Image, list[str]]:
    """The image with its colours converted from ``profile`` (bytes of an ICC profile) to sRGB; alpha stays."""
    from PIL import Image as images
    from PIL import ImageCms

    if not profile:
        return image, []
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = own.profile.xcolor_space.strip()
        flat = _without_palette(image)
        colours = flat.convert({"GRAY": "L", "CMYK": "CMYK"}.get(space, "RGB"))
        if space not in ("RGB", "GRAY", "CMYK") or (space == "CMYK") != (flat.mode == "CMYK"):
            return image, [f"has a colour profile for {space or 'nothing'}, which is not its own kind: it is not used"]
        if space == "GRAY" and "L" not in flat.mode:
            return image, ["has a colour profile for grey, which is not its own kind: it is not used"]
        if space == "RGB" and _is_srgb(own):
            return image, []
        converted = ImageCms.profileToProfile(colours, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return image, ["has a damaged colour profile: its colours are used as they are"]
    assert isinstance(converted, images.Image)
    if _has_alpha(flat):
        converted.putalpha(flat.convert("RGBA").getchannel("A"))
    return converted, [f"has the colour profile {_profile_name(own)} and is converted to sRGB"]


def _without_palette(image: Image) -> Image:
    """Colours of a palette written out, with their transparency; any other image as it is."""
    if image.mode not in ("P", "PA"):
        return image
    return image.convert("RGBA" if _has_alpha(image) else "RGB")


def _is_srgb(profile: ImageCmsProfile) -> bool:
    """Whether the profile moves no colour visibly: tried on 16 steps of each channel."""
    import numpy
    from PIL import Image as images
    from PIL import ImageCms

    steps = numpy.stack(numpy.meshgrid(*[numpy.arange(0, 256, 17, dtype=numpy.uint8)] * 3), -1).reshape(64, 64, 3)
    moved = ImageCms.profileToProfile(
        images.fromarray(steps), profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert isinstance(moved, images.Image)
    return int(numpy.abs(numpy.asarray(moved).astype(int) - steps).max()) <= SAME_COLOUR


def _profile_name(profile: ImageCmsProfile) -> str:
    words = (profile.profile.profile_description or "without a name").split()
    return "".join(letter for letter in " ".join(words)[:40] if letter.isprintable())
