"""``charforge serve``"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charforge.cli.options import BestOf, CudaGraphs, Device, Scale, Threads, With, strengths

if TYPE_CHECKING:
    from charforge.serve.engine import Voice


def serve(
    bundles: Annotated[
        list[str], typer.Argument(help="the characters' .charx bundles, folders of them, or hf:USER/NAME")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    host: Annotated[str, typer.Option(help="the address to listen at; anything but this machine needs a key")] = (
        "127.0.0.1"
    ),
    api_key_env: Annotated[
        str | None, typer.Option(help="name of the environment variable that holds the key clients must send")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="a web page from elsewhere that may ask, e.g. http://localhost:3000; may be repeated"),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=256, help="how many replies are made side by side")] = 8,
    waiting: Annotated[int, typer.Option(min=0, help="how many requests may wait; more are told to come back")] = 32,
    seconds: Annotated[float, typer.Option(min=1, help="the longest that a reply or picture may take")] = 600,
    keep_tokens: Annotated[
        int, typer.Option(min=0, help="tokens of conversations that stay read, so that their next turn begins at once")
    ] = 16384,
    engine_url: Annotated[
        str | None,
        typer.Option(
            help="let another server compute that speaks OpenAI's interface, e.g. http://gpu:8000/v1 (vLLM with merged "
            "weights): no base is loaded here"
        ),
    ] = None,
    engine_model: Annotated[
        str | None, typer.Option(help="what that server calls the model; else it is the character's id")
    ] = None,
    engine_key_env: Annotated[
        str | None, typer.Option(help="name of the environment variable that holds that server's key")
    ] = None,
    best_of: BestOf = 1,
    beside: With = None,
    scale: Scale = None,
    device: Device = None,
    cuda_graphs: CudaGraphs = True,
    threads: Threads = None,
) -> None:
    """Let other programs talk to characters, and open a page to talk to them in a browser.

    Front ends connect as to OpenAI (http://127.0.0.1:8000/v1) for words and pictures, or as to AUTOMATIC1111's web UI
    (http://127.0.0.1:8000) for pictures. Each character is a model of its name. docs/serving.md says what to enter in
    which front end.

    \b
    Examples:
      charforge serve runs/wren-20261123-1/wren.charx
      charforge serve characters/ --port 8080
      charforge serve wren.charx --host 0.0.0.0 --api-key-env CHARFORGE_KEY
    """
    from charforge.cli.output import say
    from charforge.errors import InputError
    from charforge.export.hub import local_bundle
    from charforge.machine import set_threads
    from charforge.serve.listen import access_of, key_in, listen, open_socket
    from charforge.words import printable_line

    access = access_of(host, api_key_env, allow_origin or [])
    factor, others = strengths(beside, scale)
    set_threads(threads)
    # before the model is loaded: an address that is taken is known at once
    with open_socket(host, port) as socket:
        from charforge.progress import waiting as shown

        with shown("opening the characters"):
            from charforge.serve.engine import Engine
            from charforge.serve.voices import bundles_in, open_seats, remote_voices

            named = [Path(name) if Path(name).is_dir() else local_bundle(name) for name in bundles]
            paths = bundles_in(named, engine_url is None, lambda line: say(printable_line(line)))
            engine: Engine
            if engine_url is not None:
                if not engine_url.startswith(("http://", "https://")):
                    raise InputError(f"--engine-url {engine_url}: give an address such as http://gpu:8000/v1")
                from charforge.serve.remote import RemoteEngine, Upstream

                upstream = Upstream(engine_url, key_in(engine_key_env, "--engine-key-env"), seconds=seconds)
                engine = RemoteEngine(remote_voices(paths, engine_model), upstream, waiting)
            else:
                from charforge.chat.session import Style
                from charforge.cli.taste import choosing
                from charforge.device import chosen_device
                from charforge.serve.local import LocalEngine, Seat
                from charforge.serve.scheduler import Limits

                styles = [Style(local_bundle(name), strength) for name, strength in others]
                seats = open_seats(paths, chosen_device(device), factor, styles)
                # all sit on one base
                seats[0].session.base.model.use_cuda_graphs(cuda_graphs)
                if best_of > 1:
                    # the last is the base as it is
                    each = zip(seats, paths, strict=False)
                    chosen = [Seat(one.voice, choosing(one.session, path, best_of, None, device)) for one, path in each]
                    seats = [*chosen, seats[-1]]
                engine = LocalEngine(seats, Limits(rows, waiting, seconds), keep_tokens)
        address = address_of(*socket.getsockname()[:2])
        names = names_of([voice for voice in engine.voices.values() if voice.character])
        for line in greeting(address, names, access.key is not None):
            say(printable_line(line))
        listen(engine, access, socket)


def address_of(host: str, port: int) -> str:
    """Where a browser on this machine finds the server."""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def names_of(voices: Sequence[Voice]) -> list[str]:
    """Their names; with their ids where two are called the same."""
    # as the page tells them apart
    called = [unicodedata.normalize("NFKC", voice.name).casefold() for voice in voices]
    return [
        f"{voice.name} ({voice.id})" if called.count(name) > 1 else voice.name
        for voice, name in zip(voices, called, strict=True)
    ]


def greeting(address: str, names: list[str], has_key: bool) -> list[str]:
    """What is said when the server is ready."""
    return [
        f"Talk to {', '.join(names)} in a browser: {address}/",
        f"Front ends: as OpenAI {address}/v1{' with your key' if has_key else ''}, as AUTOMATIC1111 {address}",
        "Ctrl-C ends the server.",
    ]
