"""How texts name pictures: a file name in a turn, a mark in a line, a Markdown picture."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import unquote

from charforge.character.listing import normal

_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".apng", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic",
    ".heif", ".mpo",
})  # fmt: skip
_MARK = re.compile(
    r"\[(?:image|picture):\s*([^\[\]]+?)\s*\]"
    # Markdown: in angle brackets, or with spaces before the extension, or with brackets inside
    r"|!\[[^\]\n]*\]\(\s*(?:<([^<>\n]+)>|((?:[^()\s]|\([^()\s]*\)|[ ](?=[^()\"]*\.\w{3,4}\s*[)\"]))+))"
    r"(?:\s+\"[^\"\n]*\")?\s*\)"
    r"|!\[\[([^\[\]|\n]+)(?:\|[^\[\]\n]*)?\]\]",
    re.IGNORECASE,
)
_NOT_UNDERSTOOD = re.compile(r"\[(?:image|picture|img|photo|pic)\b[^\[\]\n]{0,60}\]|!\[[^\[\]\n]{0,60}\]\(", re.I)
_ELSEWHERE = re.compile(r"^(?:[a-z][a-z0-9+.-]{1,20}:|//)", re.I)


def image_name(value: object) -> str | None:
    """ "images/03.png", "03.png", "03" and 3 all name a picture; None for nothing."""
    if value is None or isinstance(value, bool) or not str(value).strip():
        return None
    path = PurePosixPath(str(value).strip().replace("\\", "/"))
    name = path.stem if path.suffix.lower() in _SUFFIXES else path.name
    return normal(unquote(name)) or None


def is_elsewhere(value: str) -> bool:
    """Whether a picture's address leads out of the folder: a web address, or the picture itself as a data URL."""
    return _ELSEWHERE.match(value.strip()) is not None


def without_marks(text: str) -> tuple[str, str | None, str | None]:
    """Words without the marks that name pictures, the last picture named, and a mark that was not understood."""
    if "[" not in text:
        return text.strip(), None, None
    named: list[str] = []

    def one(match: re.Match[str]) -> str:
        value = next(group for group in match.groups() if group is not None)
        if is_elsewhere(value):
            # a picture on the web: taken off and told by the cleaning
            return match[0]
        named.append(value)
        return ""

    words = _MARK.sub(one, text)
    if words != text:
        words = re.sub(r"[ \t]{2,}", " ", words)
    left = _NOT_UNDERSTOOD.search(words)
    odd = left[0] if left and not re.match(r"!\[[^\]]*\]\($", left[0]) else None
    return words.strip(), image_name(named[-1]) if named else None, odd
