"""``charforge train``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    folder: Annotated[Path, typer.Argument(help="the character's folder")],
    preset: Annotated[str, typer.Option(help="a preset's name, or the path of a .toml file")] = "mini",
    base: Annotated[str | None, typer.Option(help="mini, or a folder in the official BAGEL layout")] = None,
    out: Annotated[Path | None, typer.Option(help="run folder; an unfinished one is continued")] = None,
    seed: Annotated[int | None, typer.Option(help="same seed, same machine, same result")] = None,
    quantize: Annotated[str | None, typer.Option(help="hold the base in int8 or nf4")] = None,
    stage: Annotated[str, typer.Option(help="all, sft alone, or grpo on top of a finished first stage")] = "all",
    assignments: Annotated[list[str] | None, typer.Option("--set", help="key=value, e.g. sft.steps=300")] = None,
    pairs: Annotated[Path | None, typer.Option(help="train on these, e.g. charforge expand's, edited")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what it would cost, and stop")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Train a character: check, expand, Unified-SFT, Character-GRPO, measure, bundle. Run it again to continue.

    \b
    Examples:
      charforge train examples/wren
      charforge train ./mychar --stage sft --seed 7 --set sft.steps=300 --json
      charforge train ./mychar --preset bagel-24gb --dry-run
    """
    from charforge.cli.output import print_json, say
    from charforge.errors import InputError

    if stage not in ("all", "sft", "grpo"):
        raise InputError(f"--stage {stage}: use all, sft or grpo")
    if dry_run:
        from charforge.character import read_character
        from charforge.cli.output import print_cost, waiting
        from charforge.estimate import cost_of
        from charforge.resources import preset_path
        from charforge.settings import read_settings

        settings = read_settings(
            preset_path(preset), folder / "charforge.toml", assignments or [], base=base, seed=seed, quantize=quantize
        )
        if stage == "sft":
            settings = settings.model_copy(update={"grpo": settings.grpo.model_copy(update={"iterations": 0})})
        character = read_character(folder)
        if pairs is not None:
            from charforge.train.given import given_pairs

            given_pairs(pairs, character, settings)
        with waiting("counting what training would take"):
            cost = cost_of(character, settings)
        if as_json:
            print_json({"cost": vars(cost)})
        else:
            print_cost(cost)
        return
    from charforge.train.run import train_character

    result = train_character(
        folder,
        preset=preset,
        base=base,
        out=out,
        seed=seed,
        overrides=assignments or [],
        quantize=quantize,
        pairs_file=pairs,
        stage=stage,  # type: ignore[arg-type]
    )
    if as_json:
        print_json({"run": str(result.run), "bundle": str(result.bundle), "metrics": result.metrics})
    else:
        say(
            f"\nbundle   {result.bundle}\nreport   {result.run / 'report.html'}"
            f"\ntalk to it: charforge chat {result.bundle}"
        )
