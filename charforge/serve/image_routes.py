"""OpenAI's routes for pictures."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException

from charforge.serve.answers import Json, pictures
from charforge.serve.engine import Drawn, Engine, PictureEvent
from charforge.serve.listening import unless_gone
from charforge.serve.requests import ImageRequest, picture_order
from charforge.serve.voices import voice_of

router = APIRouter(prefix="/v1/images", tags=["pictures"])


@router.post("/generations")
async def generations(request: Request, body: ImageRequest) -> Json:
    """Pictures of a character; its name is added to the prompt where it is missing. The size is the base's own."""
    engine: Engine = request.app.state.engine
    order = picture_order(body, voice_of(engine.voices, body.model).id)
    return pictures(await unless_gone(request, drawn(engine.draw(order))), order.seed)


@router.post("/edits")
@router.post("/variations")
async def edits() -> None:
    """Not offered."""
    raise HTTPException(400, "pictures are not edited here: ask for a new one (POST /v1/images/generations)")


async def drawn(events: AsyncIterator[PictureEvent]) -> Drawn:
    """The pictures at the end of ``events``."""
    try:
        async for event in events:
            if isinstance(event, Drawn):
                return event
        raise ValueError("these events end without a picture")
    finally:
        await events.aclose()  # type: ignore[attr-defined]
