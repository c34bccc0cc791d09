"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
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
CudaGraphs = Annotated[
    bool,
    typer.Option(
        "--cuda-graphs/--no-cuda-graphs",
        help="on a CUDA card: record a step of speaking and drawing and start it as a whole, which is faster",
    ),
]
With = Annotated[
    list[str] | None,
    typer.Option("--with", help="another bundle on the same base whose adapter acts beside, a style; may be repeated"),
]
Scale = Annotated[
    list[float] | None,
    typer.Option(
        "--scale",
        help="a factor on the adapter's strength, 1 as trained; with --with on that of the bundle there, one each",
    ),
]
LARGEST_SEED = 2**53 - 1
"""What a page in a browser holds exactly too; far below where numbers of the machine end."""
BestOf = Annotated[
    int,
    typer.Option(
        "--best-of", min=1, max=32, help="draw so many of each picture and take the one that is "
        "most like the character and shows what was asked for; its likeness is told",
    ),
]  # fmt: skip
References = Annotated[
    Path | None,
    typer.Option(
        "--references", help="with --best-of: a folder of the character's own pictures to compare with; without it "
        "drawings of it say how it looks",
    ),
]  # fmt: skip
QUIET = "say nothing but errors; results on stdout stay"
VERBOSE = "say more: progress every few seconds, what libraries report, where an error came from"


def strengths(beside: list[str] | None, scales: list[float] | None) -> tuple[float, list[tuple[str, float]]]:
    """The factor of the character's own adapter, and each bundle beside it with its factor.

    Raises InputError for factors that are no finite numbers or not as many as there are bundles to take them.
    """
    import math

    from charforge.errors import InputError

    names, factors = beside or [], scales or []
    if not all(math.isfinite(factor) for factor in factors):
        raise InputError("--scale takes a number, e.g. 0.5")
    if not names:
        if len(factors) > 1:
            raise InputError("--scale was given more than once: without --with there is one adapter, and one factor")
        return (factors[0] if factors else 1.0), []
    if factors and len(factors) != len(names):
        raise InputError(f"there are {len(names)} --with and {len(factors)} --scale: give one for each, or none")
    return 1.0, list(zip(names, factors or [1.0] * len(names), strict=True))


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
