"""``charforge expand``"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from charforge.cli.options import Device, Threads


class Writer(StrEnum):
    """Who words the pairs."""

    template = "template"
    self = "self"
    endpoint = "endpoint"


def expand(
    folder: Annotated[Path, typer.Argument(help="the character's folder")],
    out: Annotated[Path, typer.Option(help="where the pairs go, one JSON object a line")] = Path("pairs.jsonl"),
    writer: Annotated[
        Writer, typer.Option(help="template: rules; self: also the base; endpoint: also a model behind --url")
    ] = Writer.template,
    base: Annotated[str, typer.Option(help="mini, or a folder in the official BAGEL layout")] = "mini",
    url: Annotated[str, typer.Option(help="endpoint: OpenAI-compatible, ends in /v1; key: $CHARFORGE_API_KEY")] = "",
    model: Annotated[str, typer.Option(help="endpoint: the model's name")] = "",
    requests_per_minute: Annotated[float, typer.Option(min=0.1, help="endpoint: not faster than this")] = 60.0,
    price_in: Annotated[float, typer.Option(min=0, help="endpoint: price of a million tokens read")] = 0.0,
    price_out: Annotated[float, typer.Option(min=0, help="endpoint: price of a million tokens written")] = 0.0,
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
      charforge expand examples/wren --out wren-pairs/pairs.jsonl
      charforge expand ./mychar --writer endpoint --url http://localhost:8000/v1 --model qwen --json
    """
    from charforge.machine import set_threads

    set_threads(threads)
    import time

    from charforge.character import read_character
    from charforge.character.outputs import check_pairs_outputs
    from charforge.cli.output import print_json, say
    from charforge.device import chosen_device
    from charforge.expand import dropped_file, ledger_file, summary, write_expansion
    from charforge.expand import expand as expand_character
    from charforge.expand.authors import endpoint_author, self_author
    from charforge.expand.endpoint import Endpoint, EndpointSettings
    from charforge.expand.page import write_page
    from charforge.files import check_output
    from charforge.progress import counting
    from charforge.replay.pictures import own_captions

    began = time.monotonic()
    character = read_character(folder)
    check_output(out)
    kept = out.with_name(f"{out.stem}.written.jsonl")
    beside = [kept, dropped_file(out), ledger_file(out), *([out.with_suffix(".html")] if page else [])]
    check_pairs_outputs(folder, out, beside)
    with counting("writing") as on_done:
        author = None
        if writer is Writer.self:
            author = self_author(character, base, kept, seed, on_done, chosen_device(device))
        elif writer is Writer.endpoint:
            settings = EndpointSettings(
                url, model, requests_per_minute=requests_per_minute, price_in=price_in, price_out=price_out
            )
            author = endpoint_author(character, settings, base, kept, seed, on_done, chosen_device(device))
        expansion = expand_character(character, seed, author, own_captions(base))
    write_expansion(out, expansion)
    figures = summary(expansion, character.name)
    told = {**figures, "ledger": str(ledger_file(out)), "seconds": round(time.monotonic() - began, 1), "out": str(out)}
    if page:
        told["page"] = str(out.with_suffix(".html"))
        write_page(out.with_suffix(".html"), character, expansion)
    if author is not None and isinstance(author.complete, Endpoint):
        told["spent"] = author.complete.spent.line(author.complete.settings)
        say(told["spent"])
    if as_json:
        print_json(told)
    else:
        say("\n".join(f"{count:5d}  {task}" for task, count in figures["tasks"].items()))
        for why, count in figures["dropped"].items():
            say(f"{count:5d}  dropped: {why}")
        say(f"{figures['passed_over']:5d}  of your words in no pair, each with its reason: {ledger_file(out)}")
        say(f"{len(expansion.pairs)} pairs in {out}" + (f", to look through: {told['page']}" if page else ""))
