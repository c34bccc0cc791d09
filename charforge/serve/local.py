"""The engine that computes here: one model on one GPU or CPU, one thread that computes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from charforge.bases.drawing import DrawingProgress
from charforge.chat.imagine import draw_best
from charforge.chat.memory import LORE_CONTEXT
from charforge.chat.session import Session
from charforge.chat.turn import Said, Step, Wish, take_turn
from charforge.errors import CharforgeError
from charforge.serve.engine import (
    ChatEvent,
    ChatOrder,
    Drawn,
    Figures,
    PictureEvent,
    PictureOrder,
    Progress,
    Unavailable,
    Voice,
)
from charforge.serve.memories import Memories
from charforge.serve.plans import Plans
from charforge.serve.scheduler import Job, JobEvent, Limits, Scheduler

Begin = Callable[[Job], Iterator[Step]]


@dataclass(frozen=True)
class Seat:
    """A voice, and the session that speaks for it."""

    voice: Voice
    session: Session


class LocalEngine:
    """See :class:`charforge.serve.engine.Engine`. Its thread begins at once and ends with :meth:`close`."""

    def __init__(self, seats: Sequence[Seat], limits: Limits, most_tokens: int) -> None:
        self._seats = {seat.voice.id: seat for seat in seats}
        self.scheduler = Scheduler(limits)
        self._memories = Memories(most_tokens)
        self._plans = Plans()
        self._thread = threading.Thread(target=self.scheduler.run, name="computing", daemon=True)
        self._thread.start()

    @property
    def voices(self) -> Mapping[str, Voice]:
        return {name: seat.voice for name, seat in self._seats.items()}

    def figures(self) -> Figures:
        return self.scheduler.figures()

    def stop(self) -> None:
        self.scheduler.close()

    def close(self) -> None:
        self.stop()
        self._thread.join()

    async def chat(self, order: ChatOrder) -> AsyncIterator[tuple[int, ChatEvent]]:
        session = self._seats[order.voice].session
        messages = self._plans.restored(order.voice, order.messages)

        def with_seed(seed: int) -> Begin:
            def begin(job: Job) -> Iterator[Step]:
                memory = self._memories.of(session, messages)
                return take_turn(memory, messages, replace(wish_of(order, session, seed), is_over=job.cancelled.is_set))

            return begin

        jobs = _Jobs(self.scheduler)
        for number in range(order.count):
            jobs.add(session, with_seed(order.seed + number), order.previews)
        left = order.count
        async with jobs:
            async for number, event in jobs.events():
                assert not isinstance(event, Exception | DrawingProgress)
                yield number, event
                if isinstance(event, Said):
                    self._plans.remember(order.voice, event)
                    left -= 1
                    if not left:
                        return

    async def draw(self, order: PictureOrder) -> AsyncIterator[PictureEvent]:
        session = self._seats[order.voice].session
        prompt = session.picture_prompt(order.prompt)
        seeds = [order.seed + number for number in range(order.count)]
        jobs = _Jobs(self.scheduler)
        jobs.add(session, lambda job: draw_best(session, prompt, order.prompt, seeds), order.previews, draws=True)
        async with jobs:
            async for _, event in jobs.events():
                if isinstance(event, DrawingProgress):
                    yield Drawn(event.pictures, prompt, event.likeness)
                    return
                assert isinstance(event, Progress)
                yield event


def wish_of(order: ChatOrder, session: Session, seed: int) -> Wish:
    """What ``order`` wants of the reply with this seed. A reply takes half the base's context at
    most."""
    given = {
        "temperature": order.temperature, "top_p": order.top_p, "repetition_penalty": order.repetition_penalty,
        "max_tokens": order.max_tokens,
    }  # fmt: skip
    settings = session.settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    half = session.base.model.shapes.context_tokens // 2
    settings = settings.model_copy(update={"max_tokens": min(settings.max_tokens, half)})
    pictures = "never" if session.bare else order.pictures
    # front ends send a page of instructions: it leads a small model astray, which knows its character from training
    told = order.told if session.bare or session.base.model.shapes.context_tokens >= LORE_CONTEXT else ""
    return Wish(settings, seed, pictures, order.user, told, order.stop, order.top)


class _Jobs:
    """Jobs of one order, as somebody in an event loop waits for them."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._jobs: list[Job] = []
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[tuple[int, JobEvent]] = asyncio.Queue()

    def add(self, session: Session, begin: Begin, previews: bool, draws: bool = False) -> None:
        number = len(self._jobs)

        def tell(event: JobEvent) -> None:
            try:
                self._loop.call_soon_threadsafe(self._heard.put_nowait, (number, event))
            except RuntimeError:
                # the loop has ended, and with it whoever waited
                job.cancelled.set()

        job = Job(session, lambda: begin(job), tell, previews, draws)
        self._jobs.append(job)

    async def __aenter__(self) -> None:
        self._scheduler.submit(*self._jobs)

    async def __aexit__(self, *_: object) -> None:
        for job in self._jobs:
            job.cancelled.set()
        self._scheduler.wake()

    async def events(self) -> AsyncIterator[tuple[int, JobEvent]]:
        while True:
            number, event = await self._heard.get()
            if isinstance(event, CharforgeError):
                raise event
            if isinstance(event, Exception):
                raise Unavailable(f"the model failed ({type(event).__name__}): the server's log says more") from event
            yield number, event
