"""Waiting for what an engine makes as long as the client does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

T = TypeVar("T")


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the client goes. Raises ClientDisconnect then.

    The request's body must have been read.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for one in (task, gone):
            await _ended(one)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _ended(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        # whoever would have heard of it is gone: without this asyncio complains that nobody looked
        task.exception()


async def with_pulse(events: AsyncIterator[T], seconds: float) -> AsyncIterator[T | None]:
    """``events``, and None whenever nothing has come for so many seconds. They are closed, whoever ends it."""
    task: asyncio.Future[T] | None = None
    try:
        while True:
            if task is None:
                task = asyncio.ensure_future(anext(events))  # type: ignore[arg-type]
            await asyncio.wait({task}, timeout=seconds)
            if not task.done():
                yield None
                continue
            done, task = task, None
            try:
                event = done.result()
            except StopAsyncIteration:
                return
            yield event
    finally:
        if task is not None:
            await _ended(task)
        await events.aclose()  # type: ignore[attr-defined]
