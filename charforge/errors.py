"""Errors meant for people: what is wrong, where, and what to do about it."""

from __future__ import annotations

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
