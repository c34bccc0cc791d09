"""``charforge bench``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charforge.cli.options import Device, Threads

if TYPE_CHECKING:
    from rich.table import Table

BUSY = 0.05


def bench(
    base: Annotated[str, typer.Option(help="a shape: bagel, mini, small, or the folder of a base")] = "mini",
    precision: Annotated[
        str | None, typer.Option(help="bf16, int8 or nf4; by default the preset's, without a preset bf16")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="take batch sizes and memory settings from this preset")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="one small size of everything, once")] = False,
    from_file: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="load the base from files in DIR, written there first (random weights, kept): load time and memory",
        ),
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="also the 20 longest kernels of one step")] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="with compiled layers, as the setting memory.compile_layers has them")
    ] = False,
    cuda_graphs: Annotated[
        bool | None,
        typer.Option(
            "--cuda-graphs/--no-cuda-graphs",
            help="on a CUDA card: steps of decoding and drawing recorded; by default as the preset says",
        ),
    ] = None,
    device: Device = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
    out: Annotated[Path | None, typer.Option(help="also write the JSON to this file, as it grows")] = None,
) -> None:
    """Measure speed and memory of both training stages on this machine, with random weights: nothing is downloaded.

    \b
    Examples:
      charforge bench --base small --quick
      charforge bench --base bagel --precision int8 --json --out bagel-int8.json
      charforge bench --base bagel --precision nf4 --from-file /scratch/bagel --profile
    """
    from charforge.machine import set_threads

    set_threads(threads)
    import json

    from charforge.character.outputs import check_over_inputs
    from charforge.cli.output import print_json, say
    from charforge.files import check_output, write_atomic
    from charforge.progress import counting, waiting

    if out is not None:
        check_output(out)
        check_over_inputs(out, [Path(preset)] if preset and preset.endswith(".toml") else [])
    with waiting("loading PyTorch"):
        from charforge.cost.bench import run_bench
        from charforge.device import chosen_device

    def keep(result: dict[str, Any]) -> None:
        if out is not None:
            write_atomic(out, json.dumps(result, indent=2) + "\n")

    result = run_bench(
        base, precision, chosen_device(device), counting, preset, quick, from_file, profile, compiled, cuda_graphs, keep
    )
    keep(result)
    if cuda_graphs and not result["cuda_graphs"]:
        say("--cuda-graphs: no steps were recorded, that needs a CUDA card")
    if as_json:
        print_json(result)
    else:
        print_result(result)
    if out is not None:
        say(f"wrote {out}")


def print_result(result: dict[str, Any]) -> None:
    """Tables and a few lines for a person."""
    from charforge.cli.output import say, show

    sft, rollout = result["sft"], result["rollout"]
    steps: list[tuple[object, ...]] = []
    for row in sft:
        samples = f"{row['dialogues']} + {row['pictures']} x {row['picture_side']}²"
        steps.append((row["tokens"], samples, *_figures(row, "step_s", "tokens_per_s", "peak_memory_gib", "mfu")))
    columns: tuple[str, ...] = ("tokens", "dialogues + pictures", "seconds", "tokens/s", "peak GiB", "MFU")
    show(_table("one step of the first stage", columns, steps))
    drawings: list[tuple[object, ...]] = []
    for row in rollout:
        batch = f"group of {row['batch']}" if row["code"] == "roll_out" else row["batch"]
        guidance = "yes" if row["guidance"] else "no"
        figures = _figures(row, "images_per_s", "peak_memory_gib", "mfu")
        drawings.append((batch, f"{row['picture_side']}²", guidance, row["steps_run"], *figures))
    columns = ("pictures at a time", "side", "guidance", "steps timed", "pictures/s", "peak GiB", "MFU")
    show(_table(f"drawing, {rollout[0]['steps']} steps", columns, drawings))
    others: list[tuple[object, ...]] = []
    for row in result["updates"]:
        what = f"update, {row['images']} pictures of {row['picture_side']}²"
        others.append((what, *_figures(row, "step_s", "images_per_s", "peak_memory_gib")))
    for row in result["decodes"]:
        what = f"decode one picture of {row['picture_side']}²"
        others.append((what, *_figures(row, "image_s", "", "peak_memory_gib")))
    columns = ("what", "seconds", "pictures/s", "peak GiB")
    show(_table("one step of the second stage, and the autoencoder", columns, others))
    replies: list[tuple[object, ...]] = [
        (row["rows"], row["tokens"], *_figures(row, "tokens_per_s", "token_s", "peak_memory_gib"))
        for row in result["replies"]
    ]
    columns = ("replies at a time", "tokens each", "tokens/s", "seconds a token", "peak GiB")
    show(_table("replies", columns, replies))
    show(_table("memory by part, GiB", ("what", "predicted", "measured", "measured / predicted"), _memory(result)))
    if result["runtime_gib"] is None:
        say("without a card, what the process itself takes is in these figures: of tenths of a GiB it is most")
    if result["profile"]:
        show(_table("the longest kernels of one step of the first stage", _KERNELS, _kernels(result["profile"])))
    say(f"{result['base']} in {result['precision']} on {result['device']}")
    if ways := [
        name
        for name, used in (("recorded steps", result["cuda_graphs"]), ("compiled layers", result["compiled"]))
        if used
    ]:
        say(f"with {' and '.join(ways)}")
    how = "loaded from files" if result["loaded_from"] == "files" else "built"
    say(f"{how} in {result['load_s']:.1f} s; host peak {result['host_peak_gib']:.2f} GiB")
    waited = result["processor_wait_share"]
    if waited is not None and waited > BUSY:
        say(f"it waited {100 * waited:.0f} % of the time for a processor that others used: a quiet machine is faster")
    say(f"MFU against {result['peak_flops'] / 1e12:.2f} TFLOP/s ({result['peak_flops_source']})")


_KERNELS = ("kernel", "calls", "milliseconds", "share")


def _memory(result: dict[str, Any]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for row in result["memory"]:
        fitted = row["measured_gib"] is not None
        figures = (f"{row['measured_gib']:.2f}", f"{row['ratio']:.2f}") if fitted else ("out of memory", "")
        rows.append((row["part"], f"{row['predicted_gib']:.2f}", *figures))
    return rows


def _kernels(profile: dict[str, Any]) -> list[tuple[object, ...]]:
    return [
        (kernel["name"][:80], kernel["calls"], f"{kernel['ms']:.2f}", f"{100 * kernel['share']:.1f} %")
        for kernel in profile["kernels"]
    ]


def _figures(row: dict[str, Any], *keys: str) -> tuple[str, ...]:
    """The row's figures as text; the first says so when it did not fit."""
    if row["status"] != "ok":
        return (row["status"], *("",) * (len(keys) - 1))
    return tuple(_shown(key, row[key]) if key else "" for key in keys)


def _shown(key: str, value: float) -> str:
    if key == "mfu":
        return f"{100 * value:.0f} %"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_lines=False)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table
