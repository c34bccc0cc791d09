"""``charforge expand``"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from charforge.cli.options import Assignments, Device, Threads


class Writer(StrEnum):
    """Who words the pairs."""

    template = "template"
    self = "self"
    endpoint = "endpoint"


def expand(
    folder: Annotated[Path, typer.Argument(help="the character's folder")],
    out: Annotated[Path, typer.Option(help="where the pairs go, one JSON object a line")] = Path("pairs.jsonl"),
    writer: Annotated[
        Writer | None,
        typer.Option(
            help="template: rules; self: also the base; endpoint: also a model behind --url; else the preset's"
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="auto: the best that this machine can do; a preset's name, or the path of a .toml file")
    ] = "auto",
    base: Annotated[
        str | None, typer.Option(help="mini, bagel, the name of a base that was added, or the folder of one")
    ] = None,
    url: Annotated[str, typer.Option(help="endpoint: OpenAI-compatible, ends in /v1; key: $CHARFORGE_API_KEY")] = "",
    model: Annotated[str, typer.Option(help="endpoint: the model's name")] = "",
    requests_per_minute: Annotated[float | None, typer.Option(min=0.1, help="endpoint: not faster than this")] = None,
    price_in: Annotated[float | None, typer.Option(min=0, help="endpoint: price of a million tokens read")] = None,
    price_out: Annotated[float | None, typer.Option(min=0, help="endpoint: price of a million tokens written")] = None,
    assignments: Assignments = None,
    page: Annotated[bool, typer.Option(help="write a page to look through the pairs, pictures included")] = True,
    seed: Annotated[int, typer.Option(help="decides wording and the held-out split")] = 0,
    device: Device = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Write the training pairs without training, with a page to look through them.

    Nothing is lost: what was written and not kept stands in OUT.dropped.jsonl with its reason. Edit OUT and train on
    it with `charforge train DIR --pairs OUT`.

    \b
    Examples:
      charforge expand ./wren --out wren-pairs/pairs.jsonl
      charforge expand ./mychar --writer endpoint --url http://localhost:8000/v1 --model qwen --json
    """
    from charforge.machine import set_threads

    set_threads(threads)
    import time

    from charforge.auto import resolve_preset
    from charforge.bases.context import fitted
    from charforge.character import read_character
    from charforge.character.outputs import check_pairs_outputs
    from charforge.cli.output import print_json, print_task_table, say
    from charforge.device import chosen_device
    from charforge.expand import dropped_file, ledger_file, scenes_file, summary, write_expansion
    from charforge.expand import expand as expand_character
    from charforge.expand.authors import author_of, planned
    from charforge.expand.endpoint import Endpoint
    from charforge.expand.looking import Looked, look, with_looks
    from charforge.expand.page import write_page
    from charforge.expand.table import task_table
    from charforge.files import check_output
    from charforge.progress import counting
    from charforge.replay.shipped_pictures import own_captions
    from charforge.resources import preset_path
    from charforge.settings import read_settings

    began = time.monotonic()
    character = read_character(folder)
    asked = {
        "writer": writer.value if writer else None, "url": url or None, "model": model or None,
        "requests_per_minute": requests_per_minute, "price_in": price_in, "price_out": price_out,
    }  # fmt: skip
    given = [f"expand.{key}={json.dumps(value)}" for key, value in asked.items() if value is not None]
    given = [*(assignments or []), *given]
    choice = resolve_preset(preset, folder, given, device, base=base, seed=seed)
    settings = read_settings(preset_path(choice.preset), folder / "charforge.toml", given, base=base, seed=seed)
    character = fitted(character, settings)
    check_output(out)
    kept = out.with_name(f"{out.stem}.written.jsonl")
    beside = [kept, dropped_file(out), ledger_file(out), scenes_file(out)]
    check_pairs_outputs(folder, out, [*beside, *([out.with_suffix(".html")] if page else [])])
    if settings.expand.writer != "template":
        say(f"the writer {settings.expand.writer}: {planned(character, settings).line()}")
    looked = Looked()
    with counting("writing") as on_done:
        author = author_of(character, settings, kept, on_done, chosen_device(device))
        if author is not None and author.sight is not None:
            looked = look(character, author.complete, author.sight)
            character = with_looks(character, looked)
        expansion = expand_character(character, seed, author, own_captions(settings.base))
    if looked.why_not:
        say(looked.why_not)
    write_expansion(out, expansion)
    figures = summary(expansion, character.name)
    rows = task_table(character, expansion.pairs)
    report = {
        **figures,
        "table": [vars(row) for row in rows],
        "ledger": str(ledger_file(out)),
        "seconds": round(time.monotonic() - began, 1),
        "out": str(out),
    }
    if page:
        report["page"] = str(out.with_suffix(".html"))
        write_page(out.with_suffix(".html"), character, expansion)
    if author is not None and isinstance(author.complete, Endpoint):
        report["spent"] = author.complete.spent.line(author.complete.settings)
        say(report["spent"])
    if as_json:
        print_json(report)
    else:
        print_task_table(rows)
        for why, count in figures["dropped"].items():
            say(f"{count:5d}  dropped: {why}")
        say(f"{figures['passed_over']:5d}  of your words in no pair, each with its reason: {ledger_file(out)}")
        say(f"{len(expansion.pairs)} pairs in {out}" + (f", to look through: {report['page']}" if page else ""))
