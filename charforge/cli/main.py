"""``charforge``: few-shot character customization on one machine."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from charforge import __version__
from charforge.cli import (
    base,
    bench,
    chat,
    check,
    doctor,
    eval,
    expand,
    export,
    hub,
    imagine,
    inspect,
    likeness,
    new,
    runs,
    serve,
    settings,
    train,
    watch,
)
from charforge.cli.failures import run
from charforge.cli.options import QUIET, VERBOSE, set_verbosity, speaking

app = typer.Typer(
    name="charforge",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("new")(speaking(new.new))
app.command("check")(speaking(check.check))
app.command("expand")(speaking(expand.expand))
app.command("train")(speaking(train.train))
app.command("runs")(speaking(runs.runs))
app.command("watch")(speaking(watch.watch))
app.command("chat")(speaking(chat.chat))
app.command("serve")(speaking(serve.serve))
app.command("imagine")(speaking(imagine.imagine))
app.command("eval")(speaking(eval.evaluate))
app.command("likeness")(speaking(likeness.likeness))
app.command("inspect")(speaking(inspect.inspect))
app.command("export")(speaking(export.export))
app.command("push")(speaking(hub.push))
app.command("pull")(speaking(hub.pull))
app.command("settings")(speaking(settings.settings))
app.command("bench")(speaking(bench.bench))
app.command("doctor")(speaking(doctor.doctor))
app.add_typer(base.app, name="base")


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"charforge {__version__}\n")
        raise typer.Exit()


@app.callback()
def charforge(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="say which version this is")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help=QUIET)] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help=VERBOSE)] = False,
) -> None:
    """Ten pictures of a character and a page of dialogue in; one small adapter out that speaks and draws it.

    \b
    Examples:
      charforge new ./wren --example
      charforge train ./wren
      charforge chat runs/wren-20261123-1/wren.charx
    """
    set_verbosity(quiet, verbose)


def main() -> None:
    """Entry point: whatever goes wrong becomes a sentence and an exit code."""
    from charforge.machine import wait_briefly

    wait_briefly()
    # bitsandbytes reports every missing optional kernel at import: nothing a user can act on
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    run(app)


if __name__ == "__main__":
    main()
