"""``charforge inspect``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    bundle: Annotated[Path, typer.Argument(help="the .charx bundle")],
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Verify a bundle and say what is inside, who made it, and on what base. As strict as loading it.

    Exit code 0 when it can be used, 1 when it cannot.

    \b
    Examples:
      charforge inspect wren.charx
      charforge inspect wren.charx --json
    """
    from charforge.bundle import BundleError, read_bundle
    from charforge.bundle.adapter import known_shapes
    from charforge.cli.output import print_json, say

    try:
        manifest = read_bundle(bundle).manifest
    except BundleError as error:
        if not as_json:
            raise
        row = {"file": str(bundle), "level": "error", "problem": error.problem, "remedy": error.remedy}
        print_json({"ok": False, "problems": [row]})
        raise typer.Exit(1) from error
    character, base, training = manifest.character, manifest.base, manifest.training
    problems = []
    if known_shapes(base.name) is None:
        unknown = (
            f"was made for the base {base.name}, which is not known here: "
            "the adapter could be checked by itself only, not against its base"
        )
        remedy = "to use it, have that base here under the same name or path"
        problems.append({"file": str(bundle), "level": "warning", "problem": unknown, "remedy": remedy})
    if as_json:
        print_json({"ok": True, "problems": problems, **manifest.model_dump()})
        return
    say(
        f"{character.name}, {character.class_noun}, by {character.author or 'unknown'}"
        f" ({character.license or 'no licence'})"
    )
    say(f"base {base.name} ({base.precision}, {base.content_hash[:12]}), adapter rank {manifest.adapter.rank}")
    say(f"trained {training.steps} steps, seed {training.seed}; every member's hash is right")
    for problem in problems:
        say(f"it {problem['problem']}; {problem['remedy']}")
    for name, value in manifest.evaluation.items():
        say(f"  {name}: {value if value is not None else 'not measured'}")
