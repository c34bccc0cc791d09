"""``charforge train`` of several characters: what is chosen for each, and the table at the end."""

from __future__ import annotations

import os
import shlex
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from charforge.progress import verbosity

if TYPE_CHECKING:
    from charforge.auto import Choice
    from charforge.run.cast import Failure
    from charforge.run.job import TrainResult
    from charforge.run.queue import Member
    from charforge.run.shared import SharedBase


def train_members(
    members: Sequence[Member], out: Path, *, preset: str, assignments: list[str], explicit: dict[str, Any],
    device: str | None, stage: str, restart: bool, as_json: bool, priorities: dict[str, int],
) -> None:  # fmt: skip
    """Train a cast, say how each of them did, and leave with the exit code of the gravest failure."""
    from charforge.cli.output import print_json, say
    from charforge.errors import InputError
    from charforge.progress import waiting

    choices: dict[str, Choice | InputError] = {}
    for member in members:
        # all before the first is trained: what is free on the card says nothing any more once a base lies on it
        try:
            choices[member.name] = _choice(member, preset, assignments, explicit, device, restart)
        except InputError as error:
            choices[member.name] = error
    for line in dict.fromkeys(choice.sentence for choice in choices.values() if not isinstance(choice, InputError)):
        if line:
            say(line)
    with waiting("loading PyTorch"):
        from charforge.run.cast import cast_rows, exit_code, train_cast
        from charforge.run.job import train_character
        from charforge.run.queue import QUEUE

    again = f"charforge train {shlex.join(str(member.folder) for member in members)} --out {shlex.quote(str(out))}"

    def train(member: Member, shared: SharedBase) -> TrainResult:
        choice = choices[member.name]
        if isinstance(choice, InputError):
            raise choice
        result = train_character(
            member.folder, preset=choice.preset, out=member.run, overrides=assignments, device=device,
            stage=stage, restart=restart, shared=shared, again=again, **explicit,  # type: ignore[arg-type]
        )  # fmt: skip
        if result.finished_before:
            say(f"{result.run} is finished: nothing left to do")
        return result

    standings = train_cast(members, out, train, explain, say, priorities)
    rows = cast_rows(standings)
    failed = [row["name"] for row in rows if row["state"] == "failed"]
    if as_json:
        print_json({"characters": rows, "failed": failed})
    else:
        print_cast_rows(rows)
    if failed:
        # also with --quiet: an error
        typer.echo(f"charforge: failed: {', '.join(failed)} ({out / QUEUE} says why)", err=True)
    if code := exit_code(standings):
        raise typer.Exit(code)


def read_priorities(given: Sequence[str], members: Sequence[Member]) -> dict[str, int]:
    """What --priority says, by name. Raises InputError for a value that is no NAME=N, and for a name that is not in the
    cast."""
    from charforge.errors import InputError

    found: dict[str, int] = {}
    names = [member.name for member in members]
    for one in given:
        name, _, number = one.rpartition("=")
        if name not in names:
            raise InputError(f"--priority {one}: use NAME=N, NAME being one of {', '.join(names)}")
        try:
            found[name] = int(number)
        except ValueError:
            raise InputError(f"--priority {one}: {number!r} is no whole number") from None
    return found


def _choice(
    member: Member, preset: str, assignments: list[str], explicit: dict[str, Any], device: str | None, restart: bool
) -> Choice:
    from charforge.auto import resolve_preset

    return resolve_preset(preset, member.folder, assignments, device, [] if restart else [member.run], **explicit)


def explain(error: Exception) -> Failure:
    """What went wrong with one of the cast, told at once and kept for the queue."""
    from charforge.cli.failures import fault, known_error, tell_failure
    from charforge.run.cast import Failure

    if os.environ.get("CHARFORGE_DEBUG") or verbosity.get() == "verbose":
        traceback.print_exception(error)
    known = known_error(error)
    sentence = fault(error) if known is None else str(known)
    problems = getattr(error, "problems", None) or []
    worst = "; ".join(f"{one.file}: {one.problem}" for one in problems if one.level == "error")
    return Failure(f"{sentence} {worst}".strip(), tell_failure(error))


def print_cast_rows(rows: list[dict[str, Any]]) -> None:
    """One row a character on stderr: state, time, memory, scores, bundle."""
    from rich.table import Table

    from charforge.cli.output import cell, show

    table = Table("character", "state", "minutes", "GiB", "score", "scenes", "bundle", show_lines=False)
    for row in rows:
        minutes = "" if row["seconds"] is None else f"{row['seconds'] / 60:.1f}"
        memory = "" if row["peak_memory_gib"] is None else f"{row['peak_memory_gib']:.1f}"
        figures = ["" if row[name] is None else f"{row[name]:.3f}" for name in ("score", "scenes")]
        table.add_row(cell(row["name"]), row["state"], minutes, memory, *figures, cell(row["bundle"] or ""))
    show(table)
