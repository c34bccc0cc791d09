"""``charforge chat``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from charforge.cli.options import (
    LARGEST_SEED,
    BestOf,
    CudaGraphs,
    Device,
    References,
    Scale,
    Threads,
    With,
    strengths,
)


def chat(
    bundles: Annotated[
        list[str],
        typer.Argument(
            help="the character's .charx bundle or hf:USER/NAME; several talk together; with --bare also a card"
        ),
    ],
    say: Annotated[str | None, typer.Option(help="one turn: say this, print the reply, leave")] = None,
    seed: Annotated[
        int, typer.Option(min=-LARGEST_SEED, max=LARGEST_SEED, help="same seed, same reply and picture")
    ] = 0,
    pictures: Annotated[Path, typer.Option(help="folder for the pictures it sends")] = Path("pictures"),
    bare: Annotated[
        bool, typer.Option("--bare", help="the base without the adapter; takes any character card too")
    ] = False,
    best_of: BestOf = 1,
    references: References = None,
    beside: With = None,
    scale: Scale = None,
    device: Device = None,
    cuda_graphs: CudaGraphs = True,
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
    from charforge.export.hub import local_bundle
    from charforge.files import check_output
    from charforge.machine import set_threads

    check_output(pictures / "picture.png", "--pictures")

    set_threads(threads)
    from charforge.progress import waiting

    if say is not None and len(bundles) > 1:
        raise typer.BadParameter("--say talks to one character: name one bundle")
    if len(bundles) > 1 and (beside or scale):
        raise typer.BadParameter("--with and --scale are for one character: name one bundle")
    factor, others = strengths(beside, scale)
    paths = [local_bundle(bundle) for bundle in bundles]
    with waiting(f"opening {', '.join(path.name for path in paths)}"):
        from charforge.chat.group import Group
        from charforge.chat.session import Session, Style, open_character
        from charforge.cli.taste import choosing
        from charforge.cli.terminal import Terminal, command_names, one_turn, typed_lines
        from charforge.device import chosen_device

        styles = [Style(local_bundle(name), strength) for name, strength in others]
        sessions: list[Session] = []
        for path in paths:
            first = sessions[0] if sessions else None
            session = open_character(path, not bare, chosen_device(device), first, factor, styles)
            session.base.model.use_cuda_graphs(cuda_graphs)
            if best_of > 1 or references is not None:
                session = choosing(session, path, best_of, references, device)
            sessions.append(session)
    if say is not None:
        one_turn(sessions[0], say, seed, pictures, as_json)
    else:
        Terminal(Group.of(sessions), pictures, seed).run(typed_lines(command_names()))
