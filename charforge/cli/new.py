"""``charforge new``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from charforge.character.understanding import Item


def new(
    folder: Annotated[Path, typer.Argument(help="the character's folder, new or empty")],
    name: Annotated[str | None, typer.Option(help="the character's name; Robin unless given or found")] = None,
    noun: Annotated[
        str | None, typer.Option("--class", help="what it is, e.g. Shiba Inu dog, clay robot; person unless given")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="a folder or a character card of another program; it is copied and stays as it is"),
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="the example character Wren with its ten pictures, ready to train")
    ] = False,
) -> None:
    """Make a character folder: with a filled-in example of every file, from what you have, or a copy of the example.

    With --from what is understood is shown, and at a terminal what is unsure is asked; the answers go into
    character.md in the new folder.

    \b
    Examples:
      charforge new ./bo --name Bo --class "Shiba Inu dog"
      charforge new ./mox --from ~/Downloads/mox.card.png
      charforge new ./wren --example
    """
    from charforge.cli.output import say

    if example:
        from charforge.character.adopt import copy_source
        from charforge.errors import InputError
        from charforge.resources import resource_folder

        if name is not None or noun is not None or source is not None:
            raise InputError("--example is copied as it is: leave --name, --class and --from out")
        copy_source(resource_folder("examples") / "wren", folder)
        say(f"wrote the example character Wren into {folder}. Now run: charforge train {folder}")
        return
    if source is not None:
        _from_source(folder, source, name, noun)
        return
    from charforge.character.scaffold import scaffold

    for path in scaffold(folder, name or "Robin", noun or "person"):
        say(f"wrote {path}")
    say(f"now put about 10 pictures into {folder / 'images'}, change the words, and run: charforge check {folder}")


def _from_source(folder: Path, source: Path, name: str | None, noun: str | None) -> None:
    from charforge.character.adopt import copy_source, write_answers
    from charforge.character.read import read_folder
    from charforge.cli.output import print_understanding, say

    copy_source(source, folder)
    character = read_folder(folder).character
    answers = {key: value for key, value in (("name", name), ("class", noun)) if value}
    unsure: dict[str, str] = {}
    if character is not None:
        print_understanding(character.understanding)
        if not character.name and "name" not in answers:
            _ask("name", "What is its name?", "", answers, unsure)
        item = character.understanding.class_noun
        if item.how != "sure" and "class" not in answers:
            _ask("class", "What is it, in a few words (pizza courier, Shiba Inu dog)?", _guess(item), answers, unsure)
    if answers or unsure:
        say(f"wrote {write_answers(folder, answers, unsure)}")
    say(f"{source} was copied and is as it was. Now run: charforge check {folder}")


def _guess(item: Item) -> str:
    return item.value if item.how == "guessed" else ""


def _ask(key: str, question: str, guess: str, answers: dict[str, str], unsure: dict[str, str]) -> None:
    """The answer of whoever sits at the terminal; without one the question stays open."""
    if sys.stdin.isatty():
        given = typer.prompt(question, default=guess, err=True, show_default=bool(guess)).strip()
        if given:
            answers[key] = given
            return
    unsure[key] = f"{question} Perhaps: {guess}" if guess else question
