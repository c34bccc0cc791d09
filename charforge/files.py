"""Atomic writes: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from charforge.errors import InputError, MachineError, from_os_error

SYSTEM = os.name
REPLACE_TRIES, REPLACE_WAIT = 20, 0.05
"""On Windows a file that another program has open for a moment (a virus scanner, an indexer) cannot be replaced."""


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


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder that is gone afterwards. Raises MachineError where nothing can be written there: no option names
    its place."""
    remedy = "set the environment variable TMPDIR to a folder on a disk with more room"
    try:
        folder = tempfile.TemporaryDirectory()
    except OSError as error:
        raise MachineError(f"there is no folder for temporary files ({error.strerror or error}): {remedy}") from error
    with folder as name:
        try:
            yield Path(name)
        except OSError as error:
            if not str(error.filename).startswith(name):
                raise
            said = str(from_os_error(error, tempfile.gettempdir())).partition(";")[0]
            raise MachineError(f"temporary files cannot be written to {said}; free some space, or {remedy}") from error


def free_name(folder: Path, stem: str, suffix: str) -> Path:
    """``stem`` with ``suffix`` in ``folder``, or with a number between them where that is taken."""
    number, file = 1, folder / f"{stem}{suffix}"
    while file.exists():
        number += 1
        file = folder / f"{stem}-{number}{suffix}"
    return file


def check_output(path: Path, option: str = "--out", example: str = "pairs.jsonl") -> None:
    """Raise InputError unless a file can be written at ``path``, before anything is computed. Nothing is created."""
    try:
        if path.is_dir():
            raise InputError(f"{option} {path}: it is a folder; name a file, e.g. {path / example}")
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
