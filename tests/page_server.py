"""A server for the page alone: plays replies back as `charforge serve` sends them, and keeps what it was asked.

The last words of the user say what happens: "draw" in them brings a picture, "long" a reply that goes on until the
client leaves, "break" an error within the reply, "busy" a refusal the first time.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "charforge" / "serve" / "page"
PICTURES = ROOT / "examples" / "wren" / "images"
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
STEPS = 12
HOSTILE = "\u202e<img src=x onerror=\"document.title='taken'\">\x1b[31m</script><script>document.title='taken'</script>"
"""A name that tries everything: it turns the line around, is HTML, and paints a terminal."""


def character(slug: str, name: str, **own: Any) -> dict[str, Any]:
    """One entry of /v1/models."""
    usual = {"name": name, "class": "girl", "greetings": [], "avatar": None, "base": "mini", "draws": True}
    about = {**usual, "description": "", **own}
    return {"id": slug, "object": "model", "created": 0, "owned_by": "charforge", "charforge": about}


WREN = character(
    "wren",
    "Wren",
    avatar="/characters/wren/avatar.png",
    description="Builds gentle machines in an old lighthouse in Cog Harbour, and measures everything in sprockets.",
    greetings=[
        'Wren waves a spanner. "By my left spanner, an apprentice! Mind the kettle, it bites."',
        '*The lighthouse door creaks open.* "Come in, come in. Bolt has just boiled the tea."',
    ],
)
BO = character(
    "bo",
    "Bo",
    **{"class": "robot"},
    avatar="/characters/bo/avatar.png",
    description="A kettle robot with opinions.",
    greetings=["Beep. I am told that I am a kettle."],
)
ODD = character("odd", HOSTILE, greetings=[HOSTILE, "Second " + HOSTILE], description=HOSTILE)
MINI = character("mini", "mini", bare=True, **{"class": None})


@dataclass
class Played:
    """What the server was told to play, and what came. ``pause`` is the time in seconds between two chunks."""

    models: list[dict[str, Any]] = field(default_factory=lambda: [WREN, BO, ODD, MINI])
    pause: float = 0.01
    key: str | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """The last words of each request whose client went away before the end."""
    refused: set[str] = field(default_factory=set)


def picture_url(number: int, size: int = 256) -> str:
    """One of the example's pictures as a data URL."""
    held = io.BytesIO()
    file = sorted(PICTURES.glob("*.png"))[number % 10]
    with Image.open(file) as image:
        image.convert("RGB").resize((size, size)).save(held, "PNG")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


def last_words(body: dict[str, Any]) -> str:
    """The text of the last message of a request."""
    content = body["messages"][-1]["content"] if body["messages"] else ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def reply_words(body: dict[str, Any]) -> str:
    """What is said to ``body``; the same for the same words and seed."""
    said = last_words(body)
    if "long" in said:
        return " ".join(f"word{number}" for number in range(5000))
    return f'By my left spanner! *She grins.* "You said: {said[:200]}" and the number is {body["seed"]}.'


def build_app(played: Played) -> FastAPI:
    """The application. It has the pinned routes that the page asks, and the page itself."""
    app = FastAPI()

    @app.middleware("http")
    async def guarded(request: Request, call: Any) -> Response:
        path = request.url.path
        closed = path.startswith(("/v1/", "/characters/"))
        if closed and played.key and request.headers.get("authorization") != f"Bearer {played.key}":
            return refusal(401, "the key is missing or wrong", "invalid_api_key")
        response = await call(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": played.models}

    @app.get("/characters/{slug}/avatar.png")
    async def avatar(slug: str) -> Response:
        return FileResponse(sorted(PICTURES.glob("*.png"))[0 if slug == "wren" else 4])

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.json()
        played.asked.append(body)
        said = last_words(body)
        if "busy" in said and said not in played.refused:
            played.refused.add(said)
            return refusal(429, "eight others are waiting", "rate_limit_exceeded", {"Retry-After": "2"})
        return StreamingResponse(watched(request, body, played), media_type="text/event-stream")

    @app.post("/v1/images/generations")
    async def images(request: Request) -> dict[str, Any]:
        body = await request.json()
        played.asked.append(body)
        await asyncio.sleep(played.pause * STEPS)
        data = picture_url(body["seed"]).partition(",")[2]
        own = {"seed": body["seed"], "likeness": 0.875}
        return {"created": 0, "data": [{"b64_json": data, "revised_prompt": body["prompt"], "charforge": own}]}

    @app.get("/")
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))
    return app


def refusal(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in the API's own shape."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status, headers)


async def watched(request: Request, body: dict[str, Any], played: Played) -> AsyncIterator[str]:
    """The chunks of a reply with their pauses; whose client leaves is written down."""
    try:
        yield ": keep-alive\n\n"
        for chunk in chunks(body):
            await asyncio.sleep(played.pause)
            if await request.is_disconnected():
                played.left.append(last_words(body))
                return
            yield chunk
    except asyncio.CancelledError:
        played.left.append(last_words(body))
        raise


def chunks(body: dict[str, Any]) -> Iterator[str]:
    """The events of a reply to ``body``, as text."""
    said, words = last_words(body), reply_words(body)

    def event(delta: dict[str, Any], finish: str | None = None, own: dict[str, Any] | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "c1", "object": "chat.completion.chunk", "model": body["model"], "choices": [choice]}
        return f"data: {json.dumps(chunk | ({'charforge': own} if own else {}))}\n\n"

    yield event({"role": "assistant", "content": ""})
    for number, word in enumerate(words.split(" ")):
        yield event({"content": word if number == 0 else f" {word}"})
        if "break" in said and number == 3:
            yield f"data: {json.dumps({'error': {'message': 'the card ran out of memory', 'code': 'server'}})}\n\n"
            return
    plan = None
    if body["pictures"] == "always" or (body["pictures"] == "auto" and "draw" in said):
        plan = "Wren, a girl, smiling, in her workshop"
        yield event({}, own={"drawing": {"plan": plan, "step": 0, "steps": None, "preview": None}})
        for step in range(1, STEPS + 1):
            preview = picture_url(body["seed"], 32) if step % 4 == 0 and body.get("previews") else None
            drawing = {"step": step, "steps": STEPS, "preview": preview}
            yield event({}, own={"drawing": drawing})
        yield event({"images": [{"type": "image_url", "image_url": {"url": picture_url(body["seed"])}}]})
    likeness = 0.93 if plan else None
    yield event({}, "stop", {"plan": plan, "seed": body["seed"], "likeness": likeness})
    yield "data: [DONE]\n\n"


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The base URL of ``app`` on a free port of loopback, until the block ends."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [held]}, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server of the page did not start")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
    finally:
        # connections that a browser keeps open are not waited for
        server.should_exit = server.force_exit = True
        thread.join()
        held.close()


if __name__ == "__main__":
    uvicorn.run(build_app(Played(pause=0.08)), port=8765)
