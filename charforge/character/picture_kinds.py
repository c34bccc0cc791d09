"""Kinds of pictures: which are read, and how each is recognised by its first bytes. No decoder is loaded here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe", ".mpo"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
}
"""The usual extensions of each kind, the commonest first. Extensions are compared in lower case."""
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
UNREAD_SUFFIXES = frozenset(
    {".jxl", ".jp2", ".j2k", ".svg", ".psd", ".xcf", ".kra", ".clip", ".ico", ".tga", ".exr", ".hdr", ".pdf", ".dng",
     ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".ppm", ".pgm", ".qoi"}
)  # fmt: skip
"""Pictures of kinds that are not read."""
SAVE_AS = "save it as PNG or JPEG"
HEIC_REMEDY = "save it as PNG or JPEG, or `pip install 'charforge[heic]'`"
REPLACE = "replace or remove the picture"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


@dataclass(frozen=True)
class Kind:
    """``plugin``: the name of Pillow's decoder; empty, with ``problem`` and ``remedy``, for what is not read."""

    plugin: str
    problem: str = ""
    remedy: str = ""


def readable_suffixes() -> frozenset[str]:
    """The extensions of pictures that are read on this machine."""
    return SUFFIXES if reads_heic() else SUFFIXES - frozenset(FORMATS["HEIF"])


def what_it_is(head: bytes) -> Kind:
    """The kind of a file from its first 64 bytes, whatever it is called."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Kind("PNG")
    if head.startswith(b"\xff\xd8\xff"):
        return Kind("JPEG")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Kind("WEBP")
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Kind("GIF")
    if head.startswith(b"BM"):
        return Kind("BMP")
    if head.startswith((b"II*\0", b"MM\0*")):
        return Kind("TIFF")
    if head[4:8] == b"ftyp":
        return _by_brands(head)
    return _not_read(head)


def _by_brands(head: bytes) -> Kind:
    """Files in boxes (ISO BMFF): the brand says what is inside, or the ones it is compatible with do."""
    brand, length = head[8:12], min(int.from_bytes(head[:4], "big"), len(head))
    compatible = {head[at : at + 4] for at in range(16, length - 3, 4)}
    if brand in _AVIF_BRANDS or (brand in (b"mif1", b"msf1") and compatible & set(_AVIF_BRANDS)):
        return Kind("AVIF") if _reads_avif() else Kind("", "is an AVIF picture, which this Pillow cannot read", SAVE_AS)
    if brand in _HEIC_BRANDS:
        if reads_heic():
            return Kind("HEIF")
        return Kind("", "is a HEIC picture, which is not read without pillow-heif", HEIC_REMEDY)
    return Kind("", "is a film or a picture of a kind that is not read", "save one picture of it as PNG or JPEG")


def _not_read(head: bytes) -> Kind:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return Kind("", "is empty (0 bytes)", REPLACE)
    if start.startswith((b"<!doctype", b"<html")):
        return Kind("", "is a web page and no picture", "open the page, save the picture itself")
    if start.startswith((b"<svg", b"<?xml")):
        return Kind("", "is an SVG drawing", SAVE_AS)
    if head.startswith(b"version https://git-lfs"):
        return Kind("", "is the pointer of a file that Git LFS keeps elsewhere", "run `git lfs pull` in its repository")
    named = {
        b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"8BPS": "Photoshop", b"\0\0\0\x0cjP": "JPEG 2000",
        b"gimp xcf": "GIMP", b"\0\0\1\0": "icon", b"%PDF": "PDF", b"qoif": "QOI",
    }  # fmt: skip
    for mark, name in named.items():
        if head.startswith(mark):
            return Kind("", f"is a {name} file, which is not read", SAVE_AS)
    return Kind("", "is not a PNG, JPEG or WebP picture, or is damaged", REPLACE)


def reads_heic() -> bool:
    """Whether the optional package for HEIC pictures is installed."""
    return find_spec("pillow_heif") is not None


def _reads_avif() -> bool:
    from PIL import features

    return bool(features.check("avif"))
