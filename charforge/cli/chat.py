"""``charforge chat``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from charforge.cli.options import Device, Threads


def chat(
    bundles: Annotated[
        list[Path],
        typer.Argument(help="the character's .charx bundle; several talk together; with --bare also a character card"),
    ],
    say: Annotated[str | None, typer.Option(help="one turn: say this, print the reply, leave")] = None,
    seed: Annotated[int, typer.Option(help="same seed, same reply and picture")] = 0,
    pictures: Annotated[Path, typer.Option(help="folder for the pictures it sends")] = Path("pictures"),
    bare: Annotated[
        bool, typer.Option("--bare", help="the base without the adapter; takes any character card too")
    ] = False,
    device: Device = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="with --say: the reply as JSON on stdout")] = False,
) -> None:
    """Talk to a character. It answers in text, and in pictures when it wants to show something.

    Several bundles of one base make a group: who is named speaks, else whoever was silent longest. /help shows what
    can be typed.

    \b
    Examples:
      charforge chat runs/wren-20261123-1/wren.charx
      charforge chat wren.charx --say "What are you building today?" --seed 1 --json
      charforge chat wren.charx bo.charx
    """
    from charforge.files import check_output
    from charforge.machine import set_threads

    check_output(pictures / "picture.png", "--pictures")

    set_threads(threads)
    from charforge.progress import waiting

    if say is not None and len(bundles) > 1:
        raise typer.BadParameter("--say talks to one character: name one bundle")
    with waiting(f"opening {', '.join(bundle.name for bundle in bundles)}"):
        from charforge.chat.group import Group
        from charforge.chat.session import Session, open_character
        from charforge.cli.terminal import Terminal, command_names, one_turn, typed_lines
        from charforge.device import chosen_device

        sessions: list[Session] = []
        for bundle in bundles:
            beside = sessions[0] if sessions else None
            sessions.append(open_character(bundle, not bare, chosen_device(device), beside))
    if say is not None:
        one_turn(sessions[0], say, seed, pictures, as_json)
    else:
        Terminal(Group.of(sessions), pictures, seed).run(typed_lines(command_names()))
