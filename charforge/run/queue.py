"""``queue.json``: the characters of a cast and how each of them stands, written by every process that works on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from charforge.character.cast import characters_in
from charforge.errors import InputError
from charforge.files import write_atomic
from charforge.run.folder import is_run
from charforge.run.lease import holding

QUEUE, QUEUE_LEASE = "queue.json", "queue.lease"
State = Literal["waiting", "running", "finished", "failed", "interrupted", "elsewhere"]


@dataclass(frozen=True)
class Member:
    """One character of a cast: its name in the queue, its folder, and where its run goes."""

    name: str
    folder: Path
    run: Path


@dataclass(frozen=True)
class Standing:
    """How one character stands. ``exit_code`` is what ``charforge train`` of it alone would have ended with, None
    while nobody knows; ``elsewhere``: another process works on it. Of those that wait the one with the highest
    ``priority`` is next.
    """

    name: str
    folder: str
    run: str
    state: State = "waiting"
    exit_code: int | None = None
    error: str | None = None
    bundle: str | None = None
    priority: int = 0


def members_of(given: Sequence[Path], out: Path) -> list[Member] | None:
    """The characters of ``given`` folders, each with a run in ``out``; None where it is one character alone.

    A folder of character folders stands for all that it holds. Raises InputError where two of them would have the same
    run, and where ``out`` is a run itself.
    """
    inside = [characters_in(folder) for folder in given]
    folders = [one for folder, found in zip(given, inside, strict=True) for one in (found or [folder])]
    if len(given) == 1 and not inside[0]:
        return None
    names: dict[str, Path] = {}
    for folder in folders:
        name = folder.resolve().name
        # on some disks names that differ in case alone are one
        other = names.setdefault(name.casefold(), folder)
        if other is not folder:
            raise InputError(
                f"{other} and {folder} would have the same run, {out / name}: rename one of the folders, or train them "
                "into two --out folders"
            )
    if is_run(out):
        raise InputError(f"--out {out} is the run of one character: name a folder that holds the runs of all")
    return [Member(folder.resolve().name, folder, out / folder.resolve().name) for folder in folders]


def read_queue(out: Path) -> dict[str, Standing]:
    """What ``out/queue.json`` tells, by name; empty where there is none. Raises InputError when it is damaged."""
    file = out / QUEUE
    if not file.exists():
        return {}
    try:
        known = {row["name"]: Standing(**row) for row in json.loads(file.read_text("utf-8"))["characters"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} is damaged ({error}): remove it, the runs beside it know themselves how far they are"
        ) from error
    for standing in known.values():
        # people write it there themselves
        if type(standing.priority) is not int:
            raise InputError(f"{file}: the priority of {standing.name} is {standing.priority!r}: use a whole number")
    return known


def note_standing(out: Path, standings: Sequence[Standing], priorities: Mapping[str, int] | None = None) -> None:
    """Put ``standings`` into ``out/queue.json``, in place of what it said of the same names, and give names the
    ``priorities`` that are given. Other priorities stay as they are in the file, where they may have been changed.

    What it says of other characters stays: another process may work on them.
    """
    with holding(out / QUEUE_LEASE, patience=30.0):
        before = read_queue(out)
        known = before | {standing.name: standing for standing in standings}
        kept = {name: before[name].priority if name in before else 0 for name in known} | dict(priorities or {})
        known = {name: replace(standing, priority=kept[name]) for name, standing in known.items()}
        write_atomic(out / QUEUE, json.dumps(as_document(list(known.values())), indent=1, ensure_ascii=False))


def next_of(waiting: Sequence[Member], known: Mapping[str, Standing]) -> Member:
    """Whose turn it is: the highest priority in the queue, the first of equals."""
    return max(waiting, key=lambda one: known[one.name].priority if one.name in known else 0)


def as_document(standings: Sequence[Standing]) -> dict[str, Any]:
    """The content of ``queue.json``."""
    return {
        "characters": [asdict(standing) for standing in standings],
        "failed": [standing.name for standing in standings if standing.state == "failed"],
    }
