"""Errors meant for people: what is wrong, where, and what to do about it."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """One thing wrong with what the user gave us, with its remedy."""

    file: str
    level: Literal["error", "warning"]
    problem: str
    remedy: str


class CharforgeError(Exception):
    """Base of all errors that are shown as a sentence instead of a traceback."""

    exit_code = 1


class InputError(CharforgeError):
    """The input is bad (exit code 1). ``problems`` become one table."""

    exit_code = 1

    def __init__(self, message: str, problems: list[Problem] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or []


class MachineError(CharforgeError):
    """This machine cannot do it: memory, GPU, base or network missing (exit code 3)."""

    exit_code = 3


class Interrupted(BaseException):
    """A signal asked to stop, and what was computed is saved (exit code 130). No Exception: nothing may catch it on the
    way but what cleans up."""

    exit_code = 130


_MACHINE = {
    errno.ENOSPC: ("the disk is full", "free some space, then run the same command again"),
    errno.EDQUOT: ("your share of the disk is full", "free some space, then run the same command again"),
    errno.EFBIG: (
        "the file is larger than may be written here",
        "raise the limit (ulimit -f), or write to a disk that takes larger files",
    ),
    errno.EIO: ("the disk failed to read or write", "look at the disk, then run the same command again"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n), then run the same command again"),
    errno.ENOMEM: ("there is not enough memory", "close other programs, then run the same command again"),
}
_INPUT = {
    errno.EACCES: ("permission is denied", "change its permissions, or name another place"),
    errno.EPERM: ("permission is denied", "change its permissions, or name another place"),
    errno.EROFS: ("it lies on a disk that cannot be written to", "name another place"),
    errno.ENOENT: ("there is no such file or folder", "look at how it is spelt"),
    errno.ENOTDIR: ("a part of this path is a file and no folder", "name another place"),
    errno.EISDIR: ("it is a folder", "name a file"),
    errno.EEXIST: ("a file of this name is in the way", "name another place"),
    errno.ENAMETOOLONG: ("the name is too long", "name a shorter one"),
    errno.EINVAL: ("the name cannot be used", "name another one"),
    errno.EILSEQ: ("the name cannot be used on this disk", "name another one"),
    errno.ELOOP: ("its links lead round in a circle", "replace the link by the file itself"),
    errno.ENOTEMPTY: ("the folder is not empty", "name another place"),
    errno.ETXTBSY: ("another program uses it", "close that program"),
}


def from_os_error(error: OSError, path: str | os.PathLike[str] | None = None) -> CharforgeError:
    """What the system refused, as a sentence: which file, what is wrong, what to do.

    A MachineError where the machine is at its end (disk, memory), an InputError where another path would do.
    """
    where = os.fspath(path if path is not None else (error.filename or "the output"))
    number = error.errno or 0
    if number in _MACHINE:
        problem, remedy = _MACHINE[number]
        return MachineError(f"{where}: {problem}; {remedy}")
    problem, remedy = _INPUT.get(number, (error.strerror or str(error) or "it cannot be used", "name another place"))
    return InputError(f"{where}: {problem}; {remedy}")
