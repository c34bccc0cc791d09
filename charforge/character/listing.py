"""Which files of a folder or an archive are a person's, and under which names they are compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

SYSTEM_NAMES = frozenset(
    {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information"}
)
"""What operating systems leave beside people's files, in lower case. Names with a dot in front are hidden too."""
DEEPEST = 6
"""Folders inside folders that are looked into."""


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which "2" comes before "10"."""
    return [(0, int(part), part) if part.isdigit() and part.isascii() else (1, 0, part)
            for part in re.split(r"([0-9]+)", name)]  # fmt: skip


def is_system_name(name: str) -> bool:
    """Whether one part of a path belongs to the system (``.DS_Store``, ``._01.png``, ``Thumbs.db``) or is hidden."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def is_system_path(name: str) -> bool:
    """Whether any part of a path inside an archive does: ``__MACOSX/images/._01.png``."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any(is_system_name(part) for part in parts if part not in (".", ".."))


def normal(name: str) -> str:
    """The name as it is compared: é may be one letter or two in a file's name (NFC and NFD), and means the same."""
    return unicodedata.normalize("NFC", name)


def is_utf8(name: str) -> bool:
    """Whether a file's name is text. On Linux it may be any bytes; those that are none come as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def files_in(directory: Path, nested: bool, apart: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Whatever lies in ``directory``, in natural order, without system files; with ``nested`` in folders inside it too.

    Folders that are looked into are not listed themselves. Links to folders are, and are not followed; so are folders
    whose extension is in ``apart``: ``01.png`` should have been a file. Raises OSError where a folder cannot be read.
    """
    yield from _walk(directory, DEEPEST if nested else 0, apart)


def _walk(directory: Path, deeper: int, apart: frozenset[str]) -> Iterator[Path]:
    for path in sorted(directory.iterdir(), key=lambda path: natural_key(path.name)):
        if is_system_name(path.name):
            continue
        if deeper and path.is_dir() and not path.is_symlink() and path.suffix.lower() not in apart:
            yield from _walk(path, deeper - 1, apart)
        else:
            yield path
