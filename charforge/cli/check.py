"""``charforge check``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check(
    folder: Annotated[Path, typer.Argument(help="the character's folder")],
    preset: Annotated[
        str, typer.Option(help="a preset's name, the path of a .toml file, or auto: the best that this machine can do")
    ] = "auto",
    base: Annotated[
        str | None, typer.Option(help="mini, bagel, the name of a base that was added, or the folder of one")
    ] = None,
    with_cost: Annotated[
        bool, typer.Option("--cost/--no-cost", help="say what training would cost; takes some seconds")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Read a character folder and say what it holds, what is wrong and how to mend it, and what training would cost.

    Says who speaks, what was taken from each file and how much was passed over. Loads no model and changes nothing.

    \b
    Examples:
      charforge check ./wren
      charforge check ./mychar --verbose
      charforge check ./mychar --json
    """
    from charforge.auto import AUTO, resolve_preset
    from charforge.bases.can_draw import what_mini_draws
    from charforge.bases.context import fitted
    from charforge.character import read_folder
    from charforge.character.judge_captions import judge_captions
    from charforge.character.judge_dialogues import judge_dialogues
    from charforge.character.judge_pictures import judge_pictures
    from charforge.character.judge_understanding import judge_understanding, reservations
    from charforge.cli.output import (
        print_cast,
        print_cost,
        print_json,
        print_ledger,
        print_pictures,
        print_problems,
        print_task_table,
        print_understanding,
        say,
    )
    from charforge.errors import InputError, Problem
    from charforge.expand import expand
    from charforge.expand.authors import planned
    from charforge.expand.judge_prompt import judge_prompt
    from charforge.expand.table import task_table
    from charforge.progress import verbosity, waiting
    from charforge.replay.shipped_pictures import own_captions
    from charforge.resources import preset_path
    from charforge.settings import read_settings

    if preset != AUTO:
        preset_path(preset)
    reading = read_folder(folder)
    problems = list(reading.problems)
    settings = choice = None
    try:
        choice = resolve_preset(preset, folder, [], None, base=base)
        settings = read_settings(preset_path(choice.preset), folder / "charforge.toml", [], base=base)
    except InputError as error:
        problem, _, remedy = str(error).rpartition(". ") if ". " in str(error) else str(error).rpartition(": ")
        problems.insert(0, Problem("charforge.toml", "error", problem or remedy, remedy))
    wrong = any(problem.level == "error" for problem in problems)
    character = reading.character
    estimated: dict[str, object] = {}
    if character is not None and not wrong and settings is not None and choice is not None:
        pictures, about_pictures = judge_pictures(character)
        dialogues, about_dialogues = judge_dialogues(character)
        character = fitted(character, settings)
        about_prompt = judge_prompt(character, settings.base)
        problems += [
            *judge_understanding(character),
            *about_pictures,
            *judge_captions(character),
            *about_dialogues,
            *about_prompt,
        ]
        cost = None
        if with_cost:
            from charforge.cost import cost_of

            with waiting("counting what training would take"):
                cost = cost_of(character, settings)
        rows = task_table(character, expand(character, settings.seed, strangers=own_captions(settings.base)).pairs)
        asked = planned(character, settings)
        mini_draws = what_mini_draws(character) if choice.base == "mini" else None
        found = {
            "name": character.name,
            "class": character.class_noun,
            "pictures": len(character.pictures),
            "dialogues": len(character.dialogues),
            "facts": len(character.facts) + len(character.lore),
            "facts_about_others": len(character.lore),
        }
        estimated = {
            "found": found,
            "understood": {key: vars(item) for key, item in vars(character.understanding).items()},
            "pictures": [vars(one) for one in pictures],
            "dialogues": vars(dialogues),
            "preset": choice.as_json(),
            "mini_draws": mini_draws,
            "table": [vars(row) for row in rows],
            "writer": {"name": settings.expand.writer, **vars(asked)},
            "cost": vars(cost) if cost else None,
        }
    cast = character.cast if character is not None else ()
    if as_json:
        read = {"cast": [vars(speaker) for speaker in cast], "ledger": reading.ledger.as_json()}
        print_json(
            {"ok": not wrong, "found": {}, "problems": [vars(problem) for problem in problems], **read, **estimated}
        )
        raise typer.Exit(1 if wrong else 0)
    print_cast(cast)
    print_ledger(reading.ledger, verbosity.get() == "verbose")
    if problems:
        print_problems(problems)
    if estimated and choice is not None and settings is not None and character is not None:
        print_understanding(character.understanding)
        print_pictures(pictures)
        # only the class may be empty
        told = {key: "unknown" if value == "" else value for key, value in found.items()}
        say(", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in told.items()))
        voice = ", ".join(dialogues.voice_words) or "no words stand out"
        say(f"voice: {voice} ({dialogues.words_per_reply} words a reply)")
        for line in filter(None, (choice.sentence, mini_draws)):
            say(line)
        print_task_table(rows)
        if asked.requests:
            say(f"the writer {settings.expand.writer} adds to these: {asked.line()}")
        if cost is not None:
            print_cost(cost)
    but = reservations(character) if character is not None else []
    ready = "ready to train" + (f", but {' and '.join(but)}: see the warnings" if but else "")
    say("not ready to train" if wrong else ready)
    raise typer.Exit(1 if wrong else 0)
