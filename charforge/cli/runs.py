"""``charforge runs``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def runs(
    folder: Annotated[Path, typer.Argument(help="the folder that holds runs, or one run")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """List runs: state, stage, step, score, bundle.

    \b
    Examples:
      charforge runs
      charforge runs /data/runs --json
    """
    from dataclasses import asdict

    from charforge.cli.output import print_json, print_runs
    from charforge.run.listing import list_runs

    lines = [asdict(line) for line in list_runs(folder)]
    if as_json:
        print_json({"runs": lines})
    else:
        print_runs(lines)
