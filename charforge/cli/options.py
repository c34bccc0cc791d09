"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from charforge.progress import Verbosity, verbosity

Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="how many threads compute; else OMP_NUM_THREADS, else as many as physical cores"
    ),
]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="change a setting, e.g. sft.steps=300; may be given several times")
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1 or mps; the best that is here unless given")
]
QUIET = "say nothing but errors; results on stdout stay"
VERBOSE = "say more: progress every few seconds, what libraries report, where an error came from"


def set_verbosity(quiet: bool, verbose: bool) -> None:
    """Of this command from now on; --quiet wins."""
    chosen: Verbosity = "quiet" if quiet else "verbose" if verbose else "normal"
    verbosity.set(chosen)
    if chosen == "verbose":
        import logging
        import sys

        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")


def speaking(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with --quiet and --verbose, which may also stand before its name."""

    @wraps(command)
    def run(quiet: bool, verbose: bool, **values: Any) -> None:
        if quiet or verbose:
            set_verbosity(quiet, verbose)
        command(**values)

    signature = inspect.signature(command, eval_str=True)
    added = (
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=False,
            annotation=Annotated[bool, typer.Option(f"--{name}", f"-{name[0]}", help=meaning)],
        )
        for name, meaning in (("quiet", QUIET), ("verbose", VERBOSE))
    )  # fmt: skip
    parameters = [*signature.parameters.values(), *added]
    # this is what typer reads
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
