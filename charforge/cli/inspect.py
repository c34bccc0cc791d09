"""``charforge inspect``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    bundle: Annotated[Path, typer.Argument(help="the .charx bundle")],
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Verify a bundle and say what is inside, who made it, and on what base.

    \b
    Examples:
      charforge inspect wren.charx
      charforge inspect wren.charx --json
    """
    from charforge.bundle import read_bundle
    from charforge.cli.output import print_json, say

    manifest = read_bundle(bundle).manifest
    if as_json:
        print_json(manifest.model_dump())
        return
    character, base, training = manifest.character, manifest.base, manifest.training
    say(
        f"{character.name}, {character.class_noun}, by {character.author or 'unknown'}"
        f" ({character.license or 'no licence'})"
    )
    say(f"base {base.name} ({base.precision}, {base.content_hash[:12]}), adapter rank {manifest.adapter.rank}")
    say(f"trained {training.steps} steps, seed {training.seed}; every member's hash is right")
    for name, value in manifest.evaluation.items():
        say(f"  {name}: {value if value is not None else 'not measured'}")
