"""What AUTOMATIC1111's routes remember between requests: who is drawn, and how far the latest picture is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from charforge.serve.engine import Drawn, PictureEvent, Progress


class Studio:
    """``chosen`` is the id of the character that is drawn where a request names none."""

    def __init__(self, chosen: str) -> None:
        self.chosen = chosen
        self.progress: Progress | None = None
        self._drawing: set[asyncio.Task[Drawn | None]] = set()
        self._interrupted: set[asyncio.Task[Drawn | None]] = set()

    async def draw(self, events: AsyncIterator[PictureEvent]) -> Drawn | None:
        """The pictures at the end of ``events``; None when they were interrupted."""
        task = asyncio.ensure_future(self._follow(events))
        self._drawing.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if task in self._interrupted:
                return None
            task.cancel()
            raise
        finally:
            self._drawing.discard(task)
            self._interrupted.discard(task)
            if not self._drawing:
                self.progress = None

    def interrupt(self) -> None:
        """End all that is being drawn."""
        for task in self._drawing:
            self._interrupted.add(task)
            task.cancel()

    async def _follow(self, events: AsyncIterator[PictureEvent]) -> Drawn | None:
        try:
            async for event in events:
                if isinstance(event, Drawn):
                    return event
                before = self.progress.preview if self.progress and event.done > 1 else None
                self.progress = Progress(event.done, event.steps, event.preview or before)
        finally:
            await events.aclose()  # type: ignore[attr-defined]
        return None
