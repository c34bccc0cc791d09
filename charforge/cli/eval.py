"""``charforge eval``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from charforge.cli.options import Device, Threads


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="run folders that charforge train made")],
    each: Annotated[int, typer.Option("-n", min=1, max=16, help="pictures of each held-out scene")] = 2,
    bare: Annotated[bool, typer.Option("--bare", help="the base without the adapter, for comparison")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="six scenes and fewer questions, for a look")] = False,
    device: Device = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Measure trained runs on held-out scenes and dialogues, with 95 % intervals; the pictures go beside them.

    \b
    Examples:
      charforge eval runs/wren
      charforge eval runs/wren runs/wren-sft -n 4 --json
    """
    from charforge.machine import set_threads

    set_threads(threads)
    from functools import partial

    from charforge.cli.output import print_json, print_metrics, say
    from charforge.files import write_atomic_with
    from charforge.progress import counting, waiting

    with waiting("loading PyTorch"):
        from charforge.device import chosen_device
        from charforge.evaluate.measure import load_run
        from charforge.evaluate.series import Extent
        from charforge.evaluate.whole import comparisons, measure_run, result_line
        from charforge.pixels import contact_sheet

    extent = Extent.quick(each) if quick else Extent.full(each)
    all_measured = []
    for run in runs:
        with waiting(f"loading {run.name}"):
            opened = load_run(run, chosen_device(device), adapter=not bare)
        with counting(f"measuring {run.name}") as report:
            measured = measure_run(run, opened, extent, report, compare=not bare)
        sheet = contact_sheet(measured.after.drawn.images(), 4 * each, measured.after.drawn.pictures.shape[-1])
        file = run / ("evaluation_bare.png" if bare else "evaluation.png")
        write_atomic_with(file, partial(sheet.save, format="PNG"))
        say(f"wrote {file}")
        all_measured.append(measured)
    lines, compared = [result_line(measured) for measured in all_measured], comparisons(all_measured)
    if as_json:
        print_json({"runs": lines, **({"compared": compared} if compared else {})})
    else:
        print_metrics(lines, compared)
