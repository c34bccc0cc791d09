"""OpenAI's routes for words: models, chat completions, completions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from charforge.chat.turn import Said
from charforge.errors import CharforgeError
from charforge.serve.answers import Answer, Json, model_entry, usage
from charforge.serve.engine import ChatEvent, Engine
from charforge.serve.failures import error_of
from charforge.serve.listening import unless_gone, with_pulse
from charforge.serve.requests import ChatRequest, CompletionRequest, chat_order, completion_request
from charforge.serve.voices import voice_of

router = APIRouter(prefix="/v1", tags=["words"])
PULSE = 10.0
"""Seconds of silence after which a stream says that it is still there: proxies close what is silent."""
Events = AsyncIterator[tuple[int, ChatEvent]]


@router.get("/models")
async def models(request: Request) -> Json:
    """Everybody who can be talked to: one model a character, and the base as it is."""
    engine: Engine = request.app.state.engine
    return {"object": "list", "data": [model_entry(voice) for voice in engine.voices.values()]}


@router.get("/models/{model}")
async def model(request: Request, model: str) -> Json:
    """One of them."""
    return model_entry(voice_of(request.app.state.engine.voices, model))


@router.post("/chat/completions", response_model=None)
async def chat_completions(request: Request, body: ChatRequest) -> Response:
    """A reply of a character, at once or in pieces (``stream``); pictures come as ``message.images``."""
    return await _answered(request, body, is_chat=True)


@router.post("/completions", response_model=None)
async def completions(request: Request, body: CompletionRequest) -> Response:
    """A reply to a single text, without pictures."""
    return await _answered(request, completion_request(body), is_chat=False)


async def _answered(request: Request, body: ChatRequest, is_chat: bool) -> Response:
    engine: Engine = request.app.state.engine
    # in a thread of its own: pictures take long to open, and others wait for their words
    order = await run_in_threadpool(chat_order, body, voice_of(engine.voices, body.model).id)
    answer, events = Answer(order, is_chat), engine.chat(order)
    if not body.stream:
        return JSONResponse(answer.whole(await unless_gone(request, _all_said(events))))
    # waited for here: an order that is refused gets the status of a refusal
    pulses = with_pulse(events, PULSE)
    first = await unless_gone(request, _first(pulses))
    with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    lines = _lines(first, pulses, answer, with_usage)
    return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _first(pulses: AsyncIterator[Any]) -> Any:
    try:
        return await anext(pulses)
    except BaseException:
        await pulses.aclose()  # type: ignore[attr-defined]
        raise


async def _all_said(events: Events) -> dict[int, Said]:
    try:
        return {number: event async for number, event in events if isinstance(event, Said)}
    finally:
        await events.aclose()  # type: ignore[attr-defined]


async def _lines(
    first: tuple[int, ChatEvent] | None, rest: AsyncIterator[tuple[int, ChatEvent] | None], answer: Answer,
    with_usage: bool,
) -> AsyncIterator[str]:  # fmt: skip
    """The answer as server-sent events."""
    said: list[Said] = []
    try:
        if answer.is_chat:
            for number in range(answer.order.count):
                yield _line(answer.begun(number))
        event = first
        while True:
            if event is None:
                yield ": still here\n\n"
            else:
                if isinstance(event[1], Said):
                    said.append(event[1])
                for chunk in answer.chunks(*event):
                    yield _line(chunk)
            try:
                event = await anext(rest)
            except StopAsyncIteration:
                break
        if with_usage:
            yield _line(answer.of([], chunk=True, usage=usage(said)))
    except CharforgeError as error:
        yield _line(error_of(error)[1])
    finally:
        await rest.aclose()  # type: ignore[attr-defined]
    yield "data: [DONE]\n\n"


def _line(chunk: Json) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
