"""``charforge imagine``"""

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


def imagine(
    bundle: Annotated[str, typer.Argument(help="the character's .charx bundle, or hf:USER/NAME")],
    prompt: Annotated[str, typer.Argument(help="what to draw; the name is added when it is missing")],
    seed: Annotated[int, typer.Option(min=-LARGEST_SEED, max=LARGEST_SEED, help="same seed, same picture")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="PNG file to write, over what it held; else picture.png, or picture-2.png, ...")
    ] = None,
    count: Annotated[int, typer.Option("-n", min=1, max=64, help="draw a sheet of this many")] = 1,
    bare: Annotated[bool, typer.Option("--bare", help="the base without the adapter, for comparison")] = False,
    best_of: BestOf = 1,
    references: References = None,
    beside: With = None,
    scale: Scale = None,
    device: Device = None,
    cuda_graphs: CudaGraphs = True,
    threads: Threads = None,
    exactly: Annotated[bool, typer.Option("--exactly", help="use the prompt as it is, add no name")] = False,
) -> None:
    """Draw the character: one picture of what the prompt says, or with -n a sheet of several.

    \b
    Examples:
      charforge imagine wren.charx "smiling, in a forest" --out wren.png
      charforge imagine wren.charx "in space, holding a telescope" -n 4 --seed 7 --out sheet.png
      charforge imagine wren.charx "in a garden" --best-of 6 --references ./wren
    """
    from charforge.character.outputs import check_over_inputs
    from charforge.errors import InputError
    from charforge.export.hub import local_bundle
    from charforge.files import check_output, free_name
    from charforge.machine import set_threads

    if out is None:
        out = free_name(Path(), "picture", ".png")
    check_output(out, example="picture.png")
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out}: pictures are written as PNG; name a file that ends in .png")
    factor, others = strengths(beside, scale)
    path, styles = local_bundle(bundle), [(local_bundle(name), strength) for name, strength in others]
    check_over_inputs(out, [path, *(style for style, _ in styles)])

    set_threads(threads)
    from charforge.cli.output import say
    from charforge.progress import counting, waiting

    with waiting(f"opening {path.name}"):
        from charforge.chat.imagine import imagine as draw
        from charforge.chat.imagine import write_sheet
        from charforge.chat.session import Style, open_character
        from charforge.cli.taste import choosing
        from charforge.device import chosen_device

        session = open_character(
            path, adapter=not bare, device=chosen_device(device), scale=factor, styles=[Style(*one) for one in styles]
        )
        session.base.model.use_cuda_graphs(cuda_graphs)
        session = choosing(session, path, best_of, references, device)
    with counting("drawing") as report:
        drawn = draw(session, prompt, range(seed, seed + count), exactly, report)
        write_sheet(drawn.pictures, out)
    alike = f"; likeness {', '.join(f'{one:.2f}' for one in drawn.likeness)}" if drawn.likeness else ""
    say(f"wrote {out}{alike}")
