"""Atomic writes: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from charforge.errors import InputError, from_os_error


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write ``content`` to ``path`` through a temporary file, fsync and rename."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    write_atomic_with(path, lambda temporary: temporary.write_bytes(data))


def write_atomic_with(path: Path, writer: Callable[[Path], object]) -> None:
    """Let ``writer`` fill a temporary file beside ``path``, then fsync and rename it into place.

    The temporary file is removed when ``writer`` fails; an existing ``path`` is then untouched. An OSError names
    ``path``, not the temporary file.
    """
    try:
        _write_atomic_with(path, writer)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _write_atomic_with(path: Path, writer: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        writer(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes private files; a finished file gets the permissions any other program would give it
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def check_output(path: Path, option: str = "--out") -> None:
    """Raise InputError unless a file can be written at ``path``, before anything is computed. Nothing is created."""
    try:
        if path.is_dir():
            raise InputError(f"{option} {path}: it is a folder; name a file, e.g. {path / 'pairs.jsonl'}")
        if path.exists() and not path.is_file():
            raise InputError(f"{option} {path}: it is not a plain file; name another")
        parent = path.absolute().parent
        # the nearest folder that is there: the others will be made
        while not os.path.lexists(parent):
            parent = parent.parent
        if not parent.is_dir():
            raise InputError(f"{option} {path}: {parent} is a file and no folder; name another place")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise InputError(f"{option} {path}: nothing can be written in {parent}; name another place")
        # names that no disk takes show only when they are looked for
        os.path.lexists(path) or path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, f"{option} {path}") from error
    except ValueError as error:
        raise InputError(f"{option} {str(path)!r}: this cannot be the name of a file; name another") from error


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
