"""A server with a tiny base, as clients meet it: on a port of this machine, in a thread."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import httpx
import uvicorn
from openai import OpenAI
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp
from tiny import CONFIG, tiny_model, tokenizer

from charforge.bases.base import Base
from charforge.character import read_character
from charforge.chat.session import Session
from charforge.families.bagel.unified import UnifiedBagel
from charforge.serve.app import create_app
from charforge.serve.engine import Engine, Voice
from charforge.serve.guard import Access
from charforge.serve.local import LocalEngine, Seat
from charforge.serve.scheduler import Limits
from charforge.settings import ChatSettings

WREN = read_character(Path(__file__).parent.parent / "examples" / "wren")
WREN = replace(WREN, persona="", voice="", class_noun="character")


def tiny_seats(name: str = "Wren", context: int = 4096, **settings: object) -> list[Seat]:
    """Wren and the bare base, both of random weights."""
    plain = tiny_model()
    model = UnifiedBagel(plain.network, plain.autoencoder, tokenizer())
    model.network.config = CONFIG.model_copy(update={"context_tokens": context})
    base = Base("tiny", model, "0" * 64, "float32")
    chat = ChatSettings(**({"max_tokens": 12, "temperature": 0.9} | settings))  # type: ignore[arg-type]
    session = Session(base, replace(WREN, name=name), chat)
    voice = Voice("wren", name, "tiny", session.character, ("Hello",), "A tinkerer", b"\x89PNG", (16, 16), 4)
    bare = Session(base, WREN, chat, bare=True)
    return [Seat(voice, session), Seat(Voice("tiny", "tiny", "tiny", side=(16, 16)), bare)]


def tiny_engine(limits: Limits | None = None, **settings: object) -> LocalEngine:
    return LocalEngine(tiny_seats(**settings), limits or Limits(), 4096)  # type: ignore[arg-type]


def served(engine: Engine, access: Access | None = None) -> AbstractContextManager[str]:
    """The address of a running server."""
    return running(create_app(engine, access or Access()))


def balanced(addresses: Sequence[str]) -> AbstractContextManager[str]:
    """The address of a balancer in front of servers: each request goes to the next of them."""
    turn = itertools.cycle(addresses)

    async def forward(request: Request) -> StreamingResponse:
        client = httpx.AsyncClient(base_url=next(turn), timeout=60)
        kept = {name: request.headers[name] for name in ("content-type", "authorization") if name in request.headers}
        sent = client.build_request(request.method, request.url.path, headers=kept, content=await request.body())
        answer = await client.send(sent, stream=True)

        async def body() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.aiter_raw():
                    yield piece
            finally:
                await client.aclose()

        return StreamingResponse(body(), answer.status_code, media_type=answer.headers.get("content-type"))

    return running(Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])]))


@contextmanager
def running(app: ASGIApp, protocol: type[asyncio.Protocol] | Literal["auto"] = "auto") -> Iterator[str]:
    """The address at which ``app`` answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        # who comes before the server accepts anybody waits
        bound.listen()
        config = uvicorn.Config(app, log_level="warning", access_log=False, http=protocol)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        try:
            httpx.get(f"{address}/health", timeout=30).raise_for_status()
            yield address
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def asked(*texts: str) -> list[dict[str, object]]:
    """A history in turn, the user first."""
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]


def picture_of(data: str) -> Image.Image:
    """The picture in a data URL, or in base64 alone."""
    return Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2] or data)))


def sent_picture(color: str) -> str:
    """A picture of one colour as a data URL."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def client_of(address: str, key: str = "none") -> OpenAI:
    """The official client."""
    return OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=60)
