"""Atomic writes: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SYSTEM = os.name
REPLACE_TRIES, REPLACE_WAIT = 20, 0.05
"""On Windows a file that another program has open for a moment (a virus scanner, an indexer) cannot be replaced."""


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write ``content`` to ``path`` through a temporary file, fsync and rename."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    write_atomic_with(path, lambda temporary: temporary.write_bytes(data))


def write_atomic_with(path: Path, writer: Callable[[Path], object]) -> None:
    """Let ``writer`` fill a temporary file beside ``path``, then fsync and rename it into place.

    The temporary file is removed when ``writer`` fails; an existing ``path`` is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    # made here, so that a name that cannot be written fails before the work of the writer, and one that is there at all
    temporary.touch(exist_ok=False)
    try:
        writer(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        replace_file(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_file(temporary: Path, path: Path) -> None:
    """Rename over ``path``; on Windows with patience. Raises OSError when it stays refused."""
    for tries_left in reversed(range(REPLACE_TRIES if SYSTEM == "nt" else 1)):
        try:
            temporary.replace(path)
            return
        except PermissionError:
            if not tries_left:
                raise
            time.sleep(REPLACE_WAIT)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` outlast a power cut, where a system opens folders at all (Windows does not)."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        # some network file systems have no such thing
        with suppress(OSError):
            os.fsync(opened)
    finally:
        os.close(opened)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
