"""``charforge expand``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def expand(
    folder: Annotated[Path, typer.Argument(help="the character's folder")],
    out: Annotated[Path, typer.Option(help="where the pairs go, one JSON object a line")] = Path("pairs.jsonl"),
    seed: Annotated[int, typer.Option(help="decides wording and the held-out split")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Write the training pairs without training.

    \b
    Examples:
      charforge expand examples/wren
      charforge expand ./mychar --out pairs.jsonl --json
    """
    from collections import Counter

    from charforge.character import read_character
    from charforge.cli.output import print_json, say
    from charforge.expand import expand as expand_character
    from charforge.expand import write_pairs

    pairs = expand_character(read_character(folder), seed)
    write_pairs(out, pairs)
    tasks = dict(Counter(pair.task for pair in pairs))
    if as_json:
        print_json({"tasks": tasks, "out": str(out)})
    else:
        say("\n".join(f"{count:5d}  {task}" for task, count in tasks.items()))
        say(f"{len(pairs)} pairs in {out}")
