"""``charforge chat``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from charforge.cli.options import Device, Scale, Threads, With, strengths


def chat(
    bundle: Annotated[
        str, typer.Argument(help="the character's .charx bundle, or hf:USER/NAME; with --bare also a character card")
    ],
    say: Annotated[str | None, typer.Option(help="one turn: say this, print the reply, leave")] = None,
    seed: Annotated[int, typer.Option(help="same seed, same reply and picture")] = 0,
    pictures: Annotated[Path, typer.Option(help="folder for the pictures it sends")] = Path("pictures"),
    bare: Annotated[
        bool, typer.Option("--bare", help="the base without the adapter; takes any character card too")
    ] = False,
    beside: With = None,
    scale: Scale = None,
    device: Device = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="with --say: the reply as JSON on stdout")] = False,
) -> None:
    """Talk to a character. It answers in text, and in pictures when it wants to show something.

    \b
    Examples:
      charforge chat runs/wren-20261123-1/wren.charx
      charforge chat wren.charx --say "What are you building today?" --seed 1 --json
      charforge chat hf:ann/wren
    """
    from charforge.export.hub import local_bundle
    from charforge.files import check_output
    from charforge.machine import set_threads

    check_output(pictures / "picture.png", "--pictures")

    set_threads(threads)
    factor, others = strengths(beside, scale)
    path = local_bundle(bundle)
    from charforge.progress import waiting

    with waiting(f"opening {path.name}"):
        from charforge.chat.session import Style, open_character
        from charforge.cli.terminal import one_turn, talk
        from charforge.device import chosen_device

        styles = [Style(local_bundle(name), strength) for name, strength in others]
        session = open_character(path, adapter=not bare, device=chosen_device(device), scale=factor, styles=styles)
    if say is not None:
        one_turn(session, say, seed, pictures, as_json)
    else:
        talk(session, seed, pictures)
