"""``charforge likeness``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from charforge.cli.options import Device, Threads


def likeness(
    bundle: Annotated[Path, typer.Argument(help="the character's .charx bundle")],
    pictures: Annotated[list[Path], typer.Argument(help="pictures of whom you like")],
    references: Annotated[
        Path | None,
        typer.Option(help="a folder of real pictures to compare with, instead of those that the bundle carries"),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(help='whose eyes: "efficientnet-lite0", "dinov2", "dinov2:FOLDER", or "clip:MODEL/PRETRAINED"'),
    ] = "efficientnet-lite0",
    device: Device = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """How like the character pictures are: the cosine with the most similar picture of it, 1 for the same picture.

    \b
    Examples:
      charforge likeness wren.charx drawn.png --references ./wren
      charforge likeness wren.charx one.png two.png --json
    """
    from charforge.machine import set_threads

    set_threads(threads)
    from charforge.bundle import read_bundle
    from charforge.character import load_picture
    from charforge.cli.output import print_json, print_likeness, say
    from charforge.errors import InputError
    from charforge.progress import waiting

    opened = read_bundle(bundle)
    images = {str(path): load_picture(path) for path in pictures}
    with waiting("looking"):
        import torch

        from charforge.device import chosen_device
        from charforge.evaluate.references import bundle_pictures, folder_pictures, judge_likeness, missing_references
        from charforge.judges.encoders import load_encoder

        known = bundle_pictures(opened) if references is None else folder_pictures(references)
        if not known:
            raise InputError(f"{bundle} carries no picture of the character: give some with --references FOLDER")
        judged = judge_likeness(load_encoder(encoder, torch.device(chosen_device(device))), known, images)
    lacking = missing_references(list(known))
    if lacking:
        say(lacking)
    if as_json:
        found = {file: {"likeness": one.likeness, "nearest": one.nearest} for file, one in judged.pictures.items()}
        print_json({"pictures": found})
    else:
        print_likeness(judged, encoder)
