"""``charforge doctor``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from charforge.doctor.checks import Check


def doctor(
    online: Annotated[bool, typer.Option("--online", help="also ask the package index and the model hub")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Say what works on this machine, what does not, and the line that mends it.

    Exit code 0 when the base mini can be trained here, 3 when it cannot.

    \b
    Examples:
      charforge doctor
      charforge doctor --online --json
    """
    from charforge.cli.output import print_json, say
    from charforge.doctor.checks import can_train, checks
    from charforge.doctor.facts import collect
    from charforge.machine import set_threads
    from charforge.progress import waiting

    set_threads(None)
    with waiting("looking at this machine"):
        made = checks(collect(online))
    ok = can_train(made)
    if as_json:
        print_json({"ok": ok, "checks": [vars(check) for check in made]})
    else:
        print_checks(made)
        say("mini can be trained here" if ok else "mini cannot be trained here yet: mend what is missing")
    raise typer.Exit(0 if ok else 3)


def print_checks(made: list[Check]) -> None:
    """One row a check, on stderr."""
    from rich.table import Table
    from rich.text import Text

    from charforge.cli.output import show

    table = Table(show_lines=False)
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    colors = {"ok": "green", "warning": "yellow", "missing": "red"}
    for check in made:
        # names and messages are other programs': never markup
        mark = Text(check.status, colors[check.status])
        table.add_row(mark, Text(check.name), Text(check.found), Text(check.remedy))
    show(table)
