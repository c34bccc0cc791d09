"""``charforge train``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from charforge.cli.options import Assignments, Device, Threads, set_verbosity


def train(
    folders: Annotated[
        list[Path],
        typer.Argument(help="the character's folder; several, or a folder of such folders: one after the other"),
    ],
    preset: Annotated[
        str, typer.Option(help="a preset's name, the path of a .toml file, or auto: the best that this machine can do")
    ] = "auto",
    base: Annotated[
        str | None, typer.Option(help="mini, bagel, the name of a base that was added, or the folder of one")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="the run's folder, runs/NAME-DATE-N unless given; an unfinished one is continued. Of several "
            "characters the folder in which each gets a run of its folder's name, runs unless given"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="same seed and machine, same result; else the preset's")] = None,
    quantize: Annotated[str | None, typer.Option(help="hold the base in int8 or nf4, to fit a smaller card")] = None,
    stage: Annotated[
        str, typer.Option(help="all, sft (the first stage alone), or grpo (the second, after a finished first)")
    ] = "all",
    assignments: Assignments = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="train on the pairs in this file, e.g. what charforge expand wrote and you edited"),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="begin the run anew; the old folder is kept under another name")
    ] = False,
    priority: Annotated[
        list[str] | None,
        typer.Option(
            "--priority",
            metavar="NAME=N",
            help="of several characters: those with higher numbers come first, 0 unless "
            "given; NAME is the folder's name; may be given several times",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what it would cost, and stop")] = False,
    device: Device = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Train a character: check, expand, Unified-SFT, Character-GRPO, measure, bundle. Run it again to continue.

    Of several characters a failure of one does not end the others: queue.json in --out says how each of them stands.
    Exit code 0 when all are finished, 1 when some input is bad, 3 when the machine failed.

    \b
    Examples:
      charforge train ./wren
      charforge train ./mychar --preset bagel-24gb --set sft.steps=300 --dry-run
      charforge train ./wren ./pip ./mam --out runs/cast --priority mam=1
    """
    from charforge.auto import resolve_preset, unfinished
    from charforge.bases.can_draw import what_mini_draws
    from charforge.character import read_character
    from charforge.cli.cast import read_priorities, train_members
    from charforge.cli.output import print_json, say
    from charforge.errors import InputError
    from charforge.machine import launched_as, set_threads
    from charforge.progress import waiting
    from charforge.resources import preset_path
    from charforge.run.folder import slug_of
    from charforge.run.queue import members_of
    from charforge.settings import read_settings

    set_threads(threads)
    rank, processes = launched_as()
    if rank > 0:
        # the first process speaks for all
        set_verbosity(quiet=True, verbose=False)
    if stage not in ("all", "sft", "grpo"):
        raise InputError(f"--stage {stage}: use all, sft or grpo")
    if restart and stage == "grpo":
        raise InputError("--restart begins with the first stage: leave --stage grpo out")
    explicit = {"base": base, "seed": seed, "quantize": quantize}
    cast = out or Path("runs")
    members = members_of(folders, cast)
    if members is not None:
        if processes > 1:
            raise InputError("several processes train one character: name one folder, or start charforge train alone")
        if pairs is not None or dry_run:
            given = "--pairs" if pairs is not None else "--dry-run"
            raise InputError(f"{given} is for one character: name one folder")
        train_members(
            members, cast, preset=preset, assignments=assignments or [], explicit=explicit, device=device, stage=stage,
            restart=restart, as_json=as_json, priorities=read_priorities(priority or [], members),
        )  # fmt: skip
        return
    if priority:
        raise InputError("--priority is for several characters: name their folders")
    (folder,) = folders
    character = read_character(folder)
    begun = [out] if out is not None else unfinished(Path("runs").glob(f"{slug_of(character)}-*"))
    runs = [] if restart else begun
    choice = resolve_preset(preset, folder, assignments or [], device, runs, **explicit)
    mini_draws = what_mini_draws(character) if choice.base == "mini" else None
    for line in filter(None, (choice.sentence, mini_draws)):
        say(line)
    if dry_run:
        from charforge.cli.output import print_cost
        from charforge.cost import cost_of

        settings = read_settings(preset_path(choice.preset), folder / "charforge.toml", assignments or [], **explicit)
        if stage == "sft":
            settings = settings.model_copy(update={"grpo": settings.grpo.model_copy(update={"iterations": 0})})
        if pairs is not None:
            from charforge.run.given import given_pairs

            given_pairs(pairs, character, settings)
        with waiting("counting what training would take"):
            cost = cost_of(character, settings, device)
        if as_json:
            print_json({"cost": vars(cost), "preset": choice.as_json(), "mini_draws": mini_draws})
        else:
            print_cost(cost)
        return
    with waiting("loading PyTorch"):
        from charforge.run.job import train_character

    result = train_character(
        folder,
        preset=choice.preset,
        base=base,
        out=out,
        seed=seed,
        overrides=assignments or [],
        quantize=quantize,
        pairs_file=pairs,
        device=device,
        stage=stage,  # type: ignore[arg-type]
        restart=restart,
    )
    if result.finished_before:
        say(f"{result.run} is finished: nothing left to do. For a new result: --restart, or another --out")
    if rank > 0:
        return
    if as_json:
        print_json({"run": str(result.run), "bundle": str(result.bundle), "metrics": result.metrics})
    else:
        say(
            f"\nbundle   {result.bundle}\nreport   {result.run / 'report.html'}"
            f"\ntalk to it: charforge chat {result.bundle}"
        )
