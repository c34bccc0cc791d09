"""How commands talk: results and JSON on stdout, everything for people on stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from charforge.progress import terminal, verbosity

if TYPE_CHECKING:
    from rich.console import RenderableType

    from charforge.character.judge_pictures import PictureJudgement
    from charforge.errors import CharforgeError, Problem
    from charforge.estimate import Cost


def print_json(value: Any) -> None:
    """One JSON document on stdout; with escapes where that cannot hold every letter (some consoles of Windows)."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(json.dumps(value, ensure_ascii=not unicode, indent=2) + "\n")


def say(text: str) -> None:
    """A line for a person, on stderr; nothing with --quiet."""
    if verbosity.get() != "quiet":
        sys.stderr.write(text + "\n")


def show(what: RenderableType) -> None:
    """A table or a text for a person, on stderr; nothing with --quiet."""
    if verbosity.get() != "quiet":
        terminal().print(what)


def print_problems(problems: list[Problem]) -> None:
    """The table of what is wrong: file, problem, remedy; with --quiet of the errors alone."""
    if verbosity.get() == "quiet":
        problems = [problem for problem in problems if problem.level == "error"]
    if not problems:
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=False)
    for column in ("", "file", "problem", "what to do"):
        table.add_column(column, overflow="fold")
    for problem in problems:
        mark = Text("error", "red") if problem.level == "error" else Text("warning", "yellow")
        # file names and texts are the user's: never markup
        table.add_row(mark, Text(problem.file), Text(problem.problem), Text(problem.remedy))
    terminal().print(table)


def print_pictures(pictures: list[PictureJudgement]) -> None:
    """The figures of each picture on stderr."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=False)
    for column in ("picture", "pixels", "sharpness", "brightness", "most like", "difference"):
        table.add_column(column)
    for one in pictures:
        size, sharp, bright = f"{one.width} x {one.height}", f"{one.sharpness:.2f}", f"{one.brightness:.2f}"
        table.add_row(Text(one.name), size, sharp, bright, Text(one.nearest), f"{one.difference:.3f}")
    show(table)


def print_metrics(lines: list[dict[str, Any]]) -> None:
    """A table of measures with their intervals, one row a run, on stderr."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=False)
    names = list(lines[0]["metrics"])
    for column in ("run", *names):
        table.add_column(column)
    for line in lines:
        cells = [f"{m['value']:.3f}\n{m['low']:.3f} to {m['high']:.3f}" for m in line["metrics"].values()]
        table.add_row(Text(line["run"]), *cells)
    show(table)


def print_runs(lines: list[dict[str, Any]]) -> None:
    """One row a run, on stderr. A score is better when it is lower, what is seen of scenes when it is higher."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=False)
    for column in ("run", "state", "stage", "step", "score", "scenes", "minutes", "bundle"):
        table.add_column(column, overflow="fold")
    for line in lines:
        figures = ["" if line[name] is None else f"{line[name]:.3f}" for name in ("score", "scenes")]
        step = f"{line['step']} of {line['steps']}" if line["steps"] is not None else str(line["step"])
        # folder names are the user's: never markup
        cells = [Text(line["run"]), line["state"], line["stage"], step, *figures, f"{line['seconds'] / 60:.1f}"]
        table.add_row(*cells, Text(line["bundle"] or ""))
    show(table)
    for line in lines:
        if line["error"] is not None:
            say(f"{line['run']}: {line['error']}")


def print_cost(cost: Cost) -> None:
    """What a run will take, and what of it for what, on stderr."""
    from rich.table import Table

    table = Table(title=f"fullest moment: {cost.fullest}", title_justify="left", show_lines=False)
    table.add_column("for")
    table.add_column("GiB", justify="right")
    for name, value in cost.parts.items():
        table.add_row(name, f"{value:.2f}")
    show(table)
    gpu = f"{cost.gpu_peak_gib:.1f} GiB of GPU memory, " if cost.gpu_peak_gib else ""
    minutes = 60 * cost.hours
    time = f"{minutes:.0f} minutes" if minutes < 100 else f"{cost.hours:.1f} hours"
    say(f"cost: {gpu}{cost.host_peak_gib:.1f} GiB of memory, {cost.disk_gib:.1f} GiB of disk, about {time}")
    say(f"      ({cost.assumed})")


def print_error(error: CharforgeError) -> None:
    """One line, and the table when there is one; also with --quiet."""
    problems = getattr(error, "problems", None)
    if problems:
        print_problems(problems)
    sys.stderr.write(f"charforge: {error}\n")
