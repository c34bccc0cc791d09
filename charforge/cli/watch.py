"""``charforge watch``"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Group

    from charforge.run.listing import RunLine

EVERY, EVERY_PLAIN = 2.0, 30.0


def watch(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="runs, or folders that hold runs; the folder runs unless given")
    ] = None,
) -> None:
    """Watch runs while they go on: state, step, losses, time left. Ends when none of them is running any more.

    Where stderr is no terminal, a line for each run every 30 seconds.

    \b
    Examples:
      charforge watch
      charforge watch runs/wren /data/cast
    """
    import time

    from rich.live import Live

    from charforge.cli.output import say
    from charforge.progress import terminal, verbosity
    from charforge.run.listing import list_runs

    folders = runs or [Path("runs")]

    def look() -> list[RunLine]:
        return [line for folder in folders for line in list_runs(folder)]

    lines = look()
    if not lines:
        say(f"no runs in {', '.join(map(str, folders))} yet: charforge train DIR begins one")
        return
    if terminal().is_terminal and verbosity.get() != "quiet":
        with Live(watch_table(lines, terminal().width), console=terminal(), auto_refresh=False) as live:
            while any(line.state == "running" for line in lines):
                time.sleep(EVERY)
                lines = look()
                live.update(watch_table(lines, terminal().width), refresh=True)
        return
    while True:
        for line in lines:
            say(watch_line(line))
        if not any(line.state == "running" for line in lines):
            return
        time.sleep(EVERY_PLAIN)
        lines = look()


def watch_line(line: RunLine) -> str:
    """A run in one line: "runs/wren: running, sft 12 of 200, 1.2 GiB, 4 min so far, 30 min left"."""
    from charforge.progress import duration
    from charforge.words import printable_line

    parts = [line.state, f"{line.stage} {line.step}" + (f" of {line.steps}" if line.steps is not None else "")]
    if line.score is not None:
        parts.append(f"held-out {line.score:.3f}")
    if line.by_heart:
        parts.append("learned by heart already")
    elif line.forecast is not None:
        ahead = line.forecast
        parts.append(f"{ahead.score:.2f} ({ahead.low:.2f} to {ahead.high:.2f}) expected at {ahead.steps}")
    if line.scenes is not None:
        parts.append(f"scenes {line.scenes:.3f}")
    if line.peak_memory_gib is not None:
        parts.append(f"{line.peak_memory_gib:.1f} GiB")
    parts.append(f"{duration(line.seconds)} so far")
    if line.seconds_left is not None:
        parts.append(f"{duration(line.seconds_left)} left of this stage")
    if line.error is not None:
        parts.append(line.error)
    # names of folders are the user's
    return printable_line(f"{line.run}: {', '.join(parts)}")


def watch_table(lines: list[RunLine], width: int) -> Group:
    """A row a run, with a bar, in so many characters; below it what went wrong."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar

    from charforge.cli.output import cell, more_steps, steps_done
    from charforge.cli.tables import Column, fitted
    from charforge.progress import duration

    def cells(of: Callable[[RunLine], str]) -> list[str]:
        return [of(line) for line in lines]

    def figure(value: float | None, digits: int = 3) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    bars = [ProgressBar(total=line.steps or 1, completed=line.step, width=16) for line in lines]
    columns = [
        Column("run", cells(lambda line: line.run), 0, is_path=True),
        Column("state", cells(lambda line: line.state), 1),
        Column("stage", cells(lambda line: line.stage), 5),
        Column("", bars, 7, width=16),
        Column("step", cells(lambda line: steps_done(line.step, line.steps)), 2),
        Column("held-out", cells(lambda line: figure(line.score)), 4),
        Column(
            "with more",
            cells(lambda line: more_steps(None if line.forecast is None else vars(line.forecast), line.by_heart)),
            10,
        ),
        Column("scenes", cells(lambda line: figure(line.scenes)), 8),
        Column("GiB", cells(lambda line: figure(line.peak_memory_gib, 1)), 9),
        Column("so far", cells(lambda line: duration(line.seconds)), 6),
        Column("left", cells(lambda line: "" if line.seconds_left is None else duration(line.seconds_left)), 3),
    ]
    errors = [cell(f"{line.run}: {line.error}") for line in lines if line.error is not None]
    return Group(fitted(columns, width)[0], *errors)
