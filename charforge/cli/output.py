"""How commands talk: results and JSON on stdout, everything for people on stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from charforge.progress import terminal, verbosity
from charforge.words import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from charforge.character.character import Speaker
    from charforge.character.judge_pictures import PictureJudgement
    from charforge.character.ledger import Ledger
    from charforge.character.understanding import Understanding
    from charforge.cost import Cost
    from charforge.errors import CharforgeError, Problem
    from charforge.evaluate.references import Judged
    from charforge.expand.table import TaskRow


LONGEST_EVIDENCE = 120
"""Characters of a sentence that are shown as evidence."""


# what a terminal obeys and JSON leaves as it is
_OBEYED = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def print_json(value: Any) -> None:
    """One JSON document on stdout; with escapes where that cannot hold every letter (some consoles of Windows)."""
    unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    told = json.dumps(value, ensure_ascii=not unicode, indent=2)
    # inside strings these are escapes of JSON: the same values
    sys.stdout.write(_OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", told) + "\n")


def say(text: str) -> None:
    """A line for a person, on stderr; nothing with --quiet."""
    if verbosity.get() != "quiet":
        sys.stderr.write(printable(text) + "\n")


def cell(text: str) -> Text:
    """Somebody's text in a table: no markup, nothing that a terminal obeys."""
    from rich.text import Text

    return Text(printable(text))


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
        table.add_row(mark, cell(problem.file), cell(problem.problem), cell(problem.remedy))
    terminal().print(table)


def print_understanding(told: Understanding) -> None:
    """What was understood of the character on stderr: each item, how sure, and the sentence that it rests on."""
    from rich.table import Table
    from rich.text import Text

    table = Table("understood", "", "", "from", title_justify="left", show_lines=False)
    rows = (("class", told.class_noun), ("pronouns", told.pronouns), ("language", told.language))
    for name, item in (*rows, ("captions", told.pictures)):
        colour = {"sure": "green", "guessed": "yellow", "unknown": "red"}[item.how]
        # texts are the user's: never markup
        evidence = item.evidence if len(item.evidence) <= LONGEST_EVIDENCE else f"{item.evidence[:LONGEST_EVIDENCE]}…"
        table.add_row(name, Text(item.value), Text(item.how, colour), Text(evidence))
    show(table)


def print_task_table(rows: Sequence[TaskRow]) -> None:
    """How many pairs of each task there are, beside the published numbers for as many pictures."""
    from rich.table import Table

    table = Table("task", "pairs", "published")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(row.task, str(row.pairs), "" if row.published is None else str(row.published))
    show(table)


def print_pictures(pictures: list[PictureJudgement]) -> None:
    """The figures of each picture on stderr."""
    from rich.table import Table

    table = Table(show_lines=False)
    for column in ("picture", "pixels", "sharpness", "brightness", "most like", "difference"):
        table.add_column(column)
    for one in pictures:
        size, sharp, bright = f"{one.width} x {one.height}", f"{one.sharpness:.2f}", f"{one.brightness:.2f}"
        table.add_row(cell(one.name), size, sharp, bright, cell(one.nearest), f"{one.difference:.3f}")
    show(table)


def print_cast(cast: Sequence[Speaker]) -> None:
    """Who speaks in the user's files, in how many lines, on stderr."""
    whose = {"character": "the character", "user": "the user", "other": "somebody else, never learned"}
    for speaker in cast:
        called = "" if speaker.name in ("", whose[speaker.voice]) else f"{speaker.name}: "
        say(f"{speaker.lines:6d} line{' ' if speaker.lines == 1 else 's'}  {called}{whose[speaker.voice]}")


def print_ledger(ledger: Ledger, verbose: bool) -> None:
    """What was taken from each file, and how much was passed over, on stderr; with ``verbose`` every entry."""
    from rich.table import Table

    table = Table(show_lines=False)
    for column, side in (("read from", "left"), ("what", "left"), ("taken", "right"), ("passed over", "right")):
        table.add_column(column, justify=side, overflow="fold")  # type: ignore[arg-type]
    for row in ledger.counts():
        if row.taken or row.passed_over:
            over = str(row.passed_over) if row.passed_over else ""
            table.add_row(cell(row.file), _counted(row.kind, row.taken + row.passed_over), str(row.taken), over)
    if table.row_count:
        show(table)
    left = ledger.passed_over
    if not verbose:
        if left:
            say(f"passed over: {len(left)}; `--verbose` says what and why")
        return
    for entry in ledger.entries:
        if entry.taken and not entry.reason:
            continue
        place = f"{entry.file}:{entry.place}" if entry.place else entry.file
        words = " ".join(entry.text.split())
        shown = f" {words[:100]}{'…' if len(words) > 100 else ''}" if words else ""
        remedy = f" ({entry.remedy})" if entry.remedy else ""
        say(f"{'changed' if entry.taken else 'passed over'}: {place}: {entry.kind}{shown}: {entry.reason}{remedy}")


def _counted(kind: str, count: int) -> str:
    return kind if count == 1 else f"{kind}s"


def print_metrics(lines: list[dict[str, Any]], compared: list[dict[str, Any]]) -> None:
    """Measures with their intervals on stderr: of one run before, after and of the real thing, of several a column
    each; then by how much the others differ from the first."""
    from rich.table import Table

    table = Table(show_lines=False)
    table.add_column("")
    columns: list[tuple[str, dict[str, Any]]] = [(line["run"], line["metrics"]) for line in lines]
    if len(lines) == 1:
        columns = [
            ("without the adapter", lines[0].get("before", {})),
            *columns,
            ("the real thing", lines[0]["ceiling"]),
        ]
    for name, _ in columns:
        table.add_column(cell(name))
    for name in dict.fromkeys(name for line in lines for name in line["metrics"]):
        table.add_row(name, *(_with_interval(metrics.get(name)) for _, metrics in columns))
    show(table)
    for one in compared:
        table = Table(show_lines=False, title=f"{one['run']} less {one['than']}", title_justify="left")
        for column in ("", "difference", "over"):
            table.add_column(column)
        for name, metric in one["metrics"].items():
            table.add_row(name, _with_interval(metric), str(metric["n"]))
        show(table)


def _with_interval(metric: dict[str, Any] | None) -> str:
    return "" if metric is None else f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def print_benchmark(told: dict[str, Any]) -> None:
    """The published table on stderr, with the adapter and without it, and again with names replaced."""
    from rich.table import Table

    for title, states in (
        (f"{told['name']}, pictures by {told['encoder']}", ("characters", "bare")),
        ("the same with an invented name in place of the character's", ("names_replaced", "names_replaced_bare")),
    ):
        table = Table(title=title, title_justify="left", show_lines=False)
        table.add_column("")
        columns = [(name, state) for name in told["characters"] for state in states]
        for name, state in columns:
            table.add_column(cell(name if state == states[0] else f"{name}, bare base"))
        for metric in dict.fromkeys(m for name, state in columns for m in told[state][name]):
            cells = [told[state][name].get(metric) for name, state in columns]
            table.add_row(metric, *(_with_interval(one) + (f" n={one['n']}" if one else "") for one in cells))
        show(table)
    for name, items in told["items"].items():
        gone = [f"{item['leaked']} of {item['parsed']} {kind}" for kind, item in items.items() if item["leaked"]]
        say(f"{name}: left out because training asks them: {', '.join(gone) or 'nothing'}")


def print_likeness(judged: Judged, encoder: str) -> None:
    """Each picture's likeness on stderr, and what is usual for pictures of the character."""
    from rich.table import Table

    table = Table(show_lines=False)
    for column in ("picture", f"likeness ({encoder})", "most like"):
        table.add_column(column, overflow="fold")
    for file, one in judged.pictures.items():
        table.add_row(cell(file), f"{one.likeness:.3f}", cell(one.nearest))
    show(table)
    if judged.scale is not None:
        say(
            f"its own pictures are at {judged.scale.ceiling:.3f} of each other; "
            f"at {judged.scale.floor:.3f} when only 16 by 16 pixels of them are left"
        )


def print_runs(lines: list[dict[str, Any]]) -> None:
    """The table of runs, and what went wrong, on stderr."""
    table, left_out = runs_table(lines, terminal().width)
    show(table)
    if left_out:
        say(f"not shown for want of room: {', '.join(left_out)} (a wider terminal, or --json, has them)")
    for line in lines:
        if line["error"] is not None:
            say(f"{line['run']}: {line['error']}")


def runs_table(lines: list[dict[str, Any]], width: int) -> tuple[Table, list[str]]:
    """One row a run, and the columns that had no room. A score is better when it is lower, what is seen of scenes when
    it is higher."""
    from charforge.cli.tables import Column, fitted

    def cells(of: Callable[[dict[str, Any]], str]) -> list[str]:
        return [of(line) for line in lines]

    def figure(name: str) -> list[str]:
        return cells(lambda line: "" if line[name] is None else f"{line[name]:.3f}")

    columns = [
        Column("run", cells(lambda line: line["run"]), 0, is_path=True),
        Column("state", cells(lambda line: line["state"]), 1),
        Column("stage", cells(lambda line: line["stage"]), 3),
        Column("step", cells(lambda line: steps_done(line["step"], line["steps"])), 2),
        Column("score", figure("score"), 4),
        Column("with more steps", cells(lambda line: more_steps(line["forecast"], line["by_heart"])), 8),
        Column("scenes", figure("scenes"), 5),
        Column("minutes", cells(lambda line: f"{line['seconds'] / 60:.1f}"), 6),
        Column("bundle", cells(lambda line: line["bundle"] or ""), 7, is_path=True),
    ]
    return fitted(columns, width)


def steps_done(step: int, steps: int | None) -> str:
    """ "12 of 70", or "12" where nobody knows of how many."""
    return f"{step} of {steps}" if steps is not None else str(step)


def more_steps(forecast: Mapping[str, Any] | None, by_heart: bool) -> str:
    """What more steps of the first stage would bring, in a cell of a table: "0.81 at 140"; empty where nobody knows."""
    if by_heart:
        return "by heart already"
    return "" if forecast is None else f"{forecast['score']:.2f} at {forecast['steps']}"


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
    """One line, and the table when there is one, also with --quiet.

    The same problem on many lines is one row with a count.
    """
    problems = getattr(error, "problems", None)
    if problems:
        from charforge.character.notes import gathered

        print_problems(gathered(problems))
    sys.stderr.write(f"charforge: {printable(str(error))}\n")
