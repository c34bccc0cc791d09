"""``charforge``: few-shot character customization on one machine."""

from __future__ import annotations

import logging

import typer

from charforge.cli import base, bench, chat, check, doctor, eval, expand, imagine, inspect, new, train
from charforge.cli.failures import run

app = typer.Typer(
    name="charforge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Ten pictures of a character and a page of dialogue in; one small adapter out that speaks and draws it.\n\n"
    "\b\nExamples:\n  charforge train examples/wren\n  charforge chat runs/wren-20261123-1/wren.charx",
)
app.command("new")(new.new)
app.command("check")(check.check)
app.command("expand")(expand.expand)
app.command("train")(train.train)
app.command("chat")(chat.chat)
app.command("imagine")(imagine.imagine)
app.command("eval")(eval.evaluate)
app.command("inspect")(inspect.inspect)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)
app.add_typer(base.app, name="base")


def main() -> None:
    """Entry point: whatever goes wrong becomes a sentence and an exit code."""
    # bitsandbytes reports every missing optional kernel at import: nothing a user can act on
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    run(app)


if __name__ == "__main__":
    main()
