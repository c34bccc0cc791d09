"""What a reader has to tell beside what it read: problems for the table, entries for the ledger, who spoke."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from charforge.character.character import Voice
from charforge.character.cleaning import one_line
from charforge.character.ledger import Entry, Kind, changed, passed_over, taken
from charforge.character.picture_kinds import SUFFIXES
from charforge.errors import Problem

MOST_ALIKE = 5
"""Lines with the same problem that are told one by one; more become one line with a count."""


@dataclass
class Notes:
    """Collected while one folder is read, and returned with the reading."""

    problems: list[Problem] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    spoken: list[tuple[Voice, str]] = field(default_factory=list)
    """Who said each line that was read: whose voice, and the name in the file."""

    def warn(self, file: str, problem: str, remedy: str) -> None:
        """Something to know that stops nothing."""
        self.problems.append(Problem(file, "warning", problem, remedy))

    def refuse(self, file: str, problem: str, remedy: str) -> None:
        """Something that must be mended before the folder can be used."""
        self.problems.append(Problem(file, "error", problem, remedy))

    def take(self, file: str, kind: Kind, count: int = 1) -> None:
        """``count`` things of ``kind`` are in the character."""
        if count:
            self.entries.append(taken(file, kind, count))

    def change(self, file: str, place: str, kind: Kind, how: str) -> None:
        """Something that is taken was changed first."""
        self.entries.append(changed(file, place, kind, how))

    def pass_over(self, file: str, place: str, kind: Kind, text: str, reason: str, remedy: str = "") -> None:
        """Something is not in the character."""
        self.entries.append(passed_over(file, place, kind, text, reason, remedy))

    def hear(self, voice: Voice, name: str) -> None:
        """A line was read: whose it is, and what the file calls them."""
        self.spoken.append((voice, one_line(name)))


def gathered(problems: Iterable[Problem]) -> list[Problem]:
    """Problems with no flood: what stands on more than five lines of a file is one line with a count."""
    groups: dict[tuple[str, str, str, str], list[Problem]] = {}
    for problem in map(_in_one_line, problems):
        key = (_source(problem.file), problem.level, _alike(problem.problem), _alike(problem.remedy))
        groups.setdefault(key, []).append(problem)
    out: list[Problem] = []
    for group in groups.values():
        if len(group) <= MOST_ALIKE:
            out += group
            continue
        first = group[0]
        out.append(
            Problem(first.file, first.level, f"{first.problem} (and {len(group) - 1} more like it)", first.remedy)
        )
    return out


def _in_one_line(problem: Problem) -> Problem:
    """The problem in words that every file and terminal can hold, whatever was quoted in it."""
    words = (one_line(text) for text in (problem.problem, problem.remedy))
    return Problem(problem.file, problem.level, *words)


def _source(place: str) -> str:
    """The file of a line, and the folder of a picture: ten pictures of one phone have the same to tell."""
    file = re.sub(r":(?:(?:line|entry|item|scene|message) )?\d+$", "", place)
    return str(PurePosixPath(file).parent) if PurePosixPath(file).suffix.lower() in SUFFIXES else file


def _alike(text: str) -> str:
    """The text without what differs from line to line: numbers, names in quotes, names of files."""
    return re.sub(r"\S+\.\w{2,4}\b|\d+|'[^']*'", "#", text)
