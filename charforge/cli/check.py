"""``charforge check``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check(
    folder: Annotated[Path, typer.Argument(help="the character's folder")],
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Read a character folder and say what it holds, what is wrong and how to mend it. Loads no model.

    \b
    Examples:
      charforge check examples/wren
      charforge check ./mychar --json
    """
    from charforge.character import check_character, read_character
    from charforge.cli.output import print_json, print_problems, say

    problems = check_character(folder)
    wrong = any(problem.level == "error" for problem in problems)
    found = {}
    if not wrong:
        character = read_character(folder)
        found = {
            "name": character.name,
            "class": character.class_noun,
            "pictures": len(character.pictures),
            "dialogues": len(character.dialogues),
            "facts": len(character.facts),
        }
    if as_json:
        print_json({"ok": not wrong, "found": found, "problems": [vars(problem) for problem in problems]})
    else:
        if problems:
            print_problems(problems)
        if found:
            say(", ".join(f"{key}: {value}" for key, value in found.items()))
        say("not ready to train" if wrong else "ready to train")
    raise typer.Exit(1 if wrong else 0)
