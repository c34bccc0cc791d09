"""A cast: several characters, one after the other, on one base; the failure of one does not end the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from charforge.errors import Interrupted
from charforge.machine import begin_peak_memory
from charforge.run.folder import is_held, is_run
from charforge.run.job import TrainResult
from charforge.run.lease import Held
from charforge.run.listing import run_line
from charforge.run.queue import Member, Standing, next_of, note_standing, read_queue
from charforge.run.shared import SharedBase

Train = Callable[[Member, SharedBase], TrainResult]
GRAVE = (70, 3, 1, 0)
"""Exit codes, the one that matters most first: a fault of charforge, what the machine could not do, bad input."""


@dataclass(frozen=True)
class Failure:
    """Why a character failed, in a sentence, and the exit code that says it to a program."""

    sentence: str
    exit_code: int


def train_cast(
    members: Sequence[Member], out: Path, train: Train, explain: Callable[[Exception], Failure],
    tell: Callable[[str], None], priorities: Mapping[str, int] | None = None,
) -> list[Standing]:  # fmt: skip
    """Train ``members`` with ``train``, those of the highest priority first, equals in order; returns how each of them
    stands, in their order. That is in ``out/queue.json`` all the time, and so are the priorities: they are looked up
    there before each character, and those that are given are written there.

    ``explain`` makes a failure of an error, ``tell`` hears a line about each character. One that another process works
    on is passed over. Raises Interrupted on a signal, InputError when ``queue.json`` is damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    known = read_queue(out)
    standings = {one.name: Standing(one.name, str(one.folder), str(one.run)) for one in members}
    # what another process works on is its to tell of
    fresh = [one for one in standings.values() if not is_held(Path(one.run)) and not _is_finished(known, one)]
    noted = {one.name for one in fresh} | set(known)
    note_standing(out, fresh, {name: value for name, value in (priorities or {}).items() if name in noted})
    shared, waiting = SharedBase(), list(members)
    while waiting:
        member = next_of(waiting, read_queue(out))
        waiting.remove(member)
        tell(f"\n{len(members) - len(waiting)} of {len(members)}: {member.name} ({member.folder})")
        standings[member.name] = _stand(member, standings[member.name], out, shared, train, explain)
        tell(in_words(standings[member.name]))
    return list(standings.values())


def _is_finished(known: dict[str, Standing], one: Standing) -> bool:
    return one.name in known and known[one.name].state == "finished"


def _stand(
    member: Member, begun: Standing, out: Path, shared: SharedBase, train: Train,
    explain: Callable[[Exception], Failure],
) -> Standing:  # fmt: skip
    """Train one; how it stands afterwards, noted in the queue."""
    begin_peak_memory()
    try:
        if not is_held(member.run):
            note_standing(out, [replace(begun, state="running")])
        result = train(member, shared)
        now = replace(begun, state="finished", exit_code=0, bundle=str(result.bundle))
    except Held as held:
        # the other process notes how it goes
        return replace(begun, state="elsewhere", error=str(held), exit_code=held.exit_code)
    except (Interrupted, KeyboardInterrupt):
        note_standing(out, [replace(begun, state="interrupted")])
        raise
    except Exception as error:
        failure = explain(error)
        now = replace(begun, state="failed", error=failure.sentence, exit_code=failure.exit_code)
    note_standing(out, [now])
    return now


def in_words(standing: Standing) -> str:
    """A line about how a character stands."""
    if standing.state == "finished":
        return f"{standing.name}: finished, {standing.bundle}"
    if standing.state == "elsewhere":
        return f"{standing.name}: passed over, {standing.error}"
    return f"{standing.name}: {standing.state}" + (f": {standing.error}" if standing.error else "")


def exit_code(standings: Sequence[Standing]) -> int:
    """Of the whole command: 0 where all are finished, else that of the gravest failure."""
    return next(code for code in GRAVE if code == 0 or any(one.exit_code == code for one in standings))


def cast_rows(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """How each character stands, with stage, score, scenes, seconds and memory of its run; None where it has none."""
    rows = []
    for standing in standings:
        run = Path(standing.run)
        line = asdict(run_line(run)) if is_run(run) else {}
        figures = {name: line.get(name) for name in ("stage", "score", "scenes", "seconds", "peak_memory_gib")}
        rows.append(asdict(standing) | figures | {"bundle": standing.bundle or line.get("bundle")})
    return rows
