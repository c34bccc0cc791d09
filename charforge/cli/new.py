"""``charforge new``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new(
    folder: Annotated[Path, typer.Argument(help="the character's folder, new or empty")],
    name: Annotated[str, typer.Option(help="the character's name")] = "Robin",
    noun: Annotated[str, typer.Option("--class", help="what it is, e.g. Shiba Inu dog, clay robot")] = "person",
) -> None:
    """Make a character folder with a filled-in example of every file.

    \b
    Examples:
      charforge new ./mychar
      charforge new ./bo --name Bo --class "Shiba Inu dog"
    """
    from charforge.character.scaffold import scaffold
    from charforge.cli.output import say

    for path in scaffold(folder, name, noun):
        say(f"wrote {path}")
    say(f"now put about 10 pictures into {folder / 'images'}, change the words, and run: charforge check {folder}")
