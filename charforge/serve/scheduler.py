"""Many orders on one model: words of several replies come from one pass, and between two words a picture gets a step.

One thread computes (:meth:`Scheduler.run`); orders come from others. Nothing here knows of HTTP.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from charforge.bases.base import Base
from charforge.bases.drawing import DrawingProgress
from charforge.chat.memory import Reading
from charforge.chat.session import Session
from charforge.chat.turn import Drawing, Said, Speak, Step
from charforge.chat.utterance import Utterance
from charforge.errors import CharforgeError, InputError
from charforge.families.results import Conditioning, Speaking
from charforge.serve.engine import Busy, ChatEvent, Figures, Piece, Progress, TooLate, Unavailable

LOG = logging.getLogger("charforge.serve")
MOST_PICTURES = 4
"""Pictures that have begun, for each row: with more of them new replies wait as well."""
PREVIEWS = 3
"""A picture that is being drawn is shown after each third of its steps."""

JobEvent = ChatEvent | DrawingProgress | Exception


@dataclass(frozen=True)
class Limits:
    """``rows`` replies are decoded side by side, ``waiting`` orders wait at most, each takes ``seconds`` at most."""

    rows: int = 8
    waiting: int = 32
    seconds: float = 600.0


@dataclass(eq=False)
class Job:
    """One reply or picture that is wanted of ``session``.

    ``begin`` makes its steps, in the thread that computes; ``tell`` hears what comes of it, from that thread: the last
    thing it hears is Said, a DrawingProgress with pictures, or an error. Whoever sets ``cancelled`` hears nothing more.
    """

    session: Session
    begin: Callable[[], Iterator[Step]]
    tell: Callable[[JobEvent], None]
    previews: bool = False
    draws: bool = False
    """Whether it is a picture from the beginning, and no reply."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    arrived: float = 0.0
    steps: Iterator[Step] = field(init=False)


@dataclass(eq=False)
class Row:
    """A reply under way."""

    job: Job
    said: Utterance


@dataclass(eq=False)
class Table:
    """Replies on one base, decoded together. ``rows`` are those of ``speaking``, in its order."""

    base: Base
    speaking: Speaking
    rows: list[Row] = field(default_factory=list)


class Scheduler:
    """Orders in, events out."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._tokens = self._passes = self._pictures = 0
        self._clock = clock
        self._waiting: deque[Job] = deque()
        self._tables: list[Table] = []
        self._reading: deque[Job] = deque()
        self._drawing: deque[Job] = deque()
        self._at_work: Job | None = None
        self._bell = threading.Condition()
        self._closed = False

    # from other threads

    def submit(self, *jobs: Job) -> None:
        """Have these done, all or none. Raises Busy when too many are waiting, Unavailable after the end."""
        with self._bell:
            if self._closed:
                raise Unavailable("the server is about to end")
            free = max(0, self.limits.rows - self._active())
            if len(jobs) > self.limits.rows + self.limits.waiting:
                raise InputError(f"n: at most {self.limits.rows + self.limits.waiting} replies at a time here")
            if len(self._waiting) + len(jobs) > self.limits.waiting + free:
                raise Busy(f"{len(self._waiting)} orders are waiting already: try again later", self._patience())
            for job in jobs:
                job.arrived = self._clock()
                self._waiting.append(job)
            self._bell.notify()

    def figures(self) -> Figures:
        """Tokens by passes is how many replies were decoded side by side on average."""
        return Figures(len(self._waiting), self._active(), self._tokens, self._passes, self._pictures)

    def _active(self) -> int:
        speaking = sum(len(table.rows) for table in self._tables)
        return speaking + len(self._reading) + len(self._drawing) + (self._at_work is not None)

    def wake(self) -> None:
        """Somebody has cancelled a job: look."""
        with self._bell:
            self._bell.notify()

    def close(self) -> None:
        """End after the step that is under way; all jobs hear that they failed."""
        with self._bell:
            self._closed = True
            self._bell.notify()

    def _patience(self) -> int:
        """Seconds after which it is worth asking again: about one round of replies."""
        return 5 + 5 * len(self._waiting) // self.limits.rows

    # in the thread that computes

    def run(self) -> None:
        """Compute until :meth:`close`; sleeps while nothing is wanted."""
        while True:
            with self._bell:
                while not (self._closed or self._waiting or self._active()):
                    self._bell.wait()
                if self._closed:
                    break
            self.step()
        speaking = [row.job for table in self._tables for row in table.rows]
        for job in [*self._waiting, *self._reading, *speaking, *self._drawing]:
            job.tell(Unavailable("the server has ended"))
        for jobs in (self._waiting, self._reading, self._drawing):
            jobs.clear()
        self._tables.clear()

    def step(self) -> None:
        """One new order, one message of what is being read, one word of each reply, one step of the oldest picture."""
        self._drop()
        self._admit()
        if self._reading:
            # in turn: a short history does not wait for a long one
            self._advance(self._reading.popleft())
        for table in list(self._tables):
            self._speak(table)
        self._tables = [table for table in self._tables if table.rows]
        if self._drawing:
            self._advance(self._drawing.popleft(), first=True)

    def _admit(self) -> None:
        with self._bell:
            job = next((job for job in self._waiting if self._has_room(job)), None)
            if job is None:
                return
            self._waiting.remove(job)
        try:
            job.steps = job.begin()
        except Exception as error:
            self._fail(job, error)
        else:
            self._advance(job)

    def _has_room(self, job: Job) -> bool:
        # pictures take long: words do not wait for them until there are many
        if job.draws:
            return len(self._drawing) < self.limits.rows
        speaking = sum(len(table.rows) for table in self._tables) + len(self._reading)
        return speaking < self.limits.rows and len(self._drawing) < MOST_PICTURES * self.limits.rows

    def _drop(self) -> None:
        """Those that nobody waits for any more, and those that take too long."""
        late = self._clock() - self.limits.seconds
        with self._bell:
            for job in [job for job in self._waiting if self._is_over(job, late)]:
                self._waiting.remove(job)
        for jobs in (self._reading, self._drawing):
            for job in [job for job in jobs if self._is_over(job, late)]:
                jobs.remove(job)
        for table in self._tables:
            over = [place for place, row in enumerate(table.rows) if self._is_over(row.job, late)]
            self._leave(table, over)

    def _is_over(self, job: Job, late: float) -> bool:
        if not job.cancelled.is_set() and job.arrived < late:
            job.tell(TooLate(f"this took longer than {self.limits.seconds:g} seconds"))
            return True
        return job.cancelled.is_set()

    def _advance(self, job: Job, first: bool = False) -> None:
        """The next step of a job that is not speaking. ``first``: it goes on before all others of its kind."""
        self._at_work = job
        try:
            with job.session.computes():
                step = next(job.steps, None)
            match step:
                case Reading():
                    self._go_on(self._reading, job, first)
                case Speak(read, said):
                    self._join(job, read, said)
                case DrawingProgress(pictures=()):
                    job.tell(self._progress(job, step))
                    self._go_on(self._drawing, job, first)
                case DrawingProgress():
                    self._pictures += len(step.pictures)
                    job.tell(step)
                    # a reply goes on after its picture
                    self._go_on(self._drawing, job, first)
                case Drawing():
                    job.tell(step)
                    self._go_on(self._drawing, job, first)
                case Said():
                    self._pictures += step.reply.image is not None
                    job.tell(step)
                case None:
                    pass
        except Exception as error:
            self._fail(job, error)
        finally:
            self._at_work = None

    def _go_on(self, jobs: deque[Job], job: Job, first: bool) -> None:
        if first:
            jobs.appendleft(job)
        else:
            jobs.append(job)

    def _progress(self, job: Job, step: DrawingProgress) -> Progress:
        every = max(1, step.steps // PREVIEWS)
        if not job.previews or step.done % every or step.done == step.steps:
            return Progress(step.done, step.steps)
        return Progress(step.done, step.steps, step.preview()[0])

    def _join(self, job: Job, read: Conditioning, said: Utterance) -> None:
        base = job.session.base
        table = next((table for table in self._tables if table.base is base), None)
        if table is None:
            table = Table(base, base.model.speaking())
            self._tables.append(table)
        with job.session.computes():
            table.speaking.join(read, said.settings.max_tokens)
        table.rows.append(Row(job, said))

    def _leave(self, table: Table, places: list[int]) -> None:
        if not places:
            return
        with table.base.model.autocast():
            table.speaking.leave(places)
        table.rows = [row for place, row in enumerate(table.rows) if place not in places]

    def _speak(self, table: Table) -> None:
        """A word of each reply of ``table``; those that are over leave, and go on."""
        if not table.rows:
            return
        try:
            over = self._say(table)
        except Exception as error:
            rows, table.rows = table.rows, []
            for row in rows:
                self._fail(row.job, error)
            return
        for job in over:
            self._advance(job)

    def _say(self, table: Table) -> list[Job]:
        chosen = list[Tensor]()
        with table.base.model.autocast():
            logits = table.speaking.logits.split(1)
        failed: list[Job] = []
        for row, of_row in zip(table.rows, logits, strict=True):
            try:
                token, piece = row.said.take(of_row)
            except Exception as error:
                # of this reply alone: its words are chosen by its own settings
                self._fail(row.job, error)
                row.said.close("stop")
                failed.append(row.job)
                token, piece = torch.zeros(1, dtype=torch.long), ""
            chosen.append(token)
            if piece:
                row.job.tell(Piece(piece))
        self._tokens += len(chosen)
        self._passes += 1
        over = [place for place, row in enumerate(table.rows) if row.said.finish]
        done = [table.rows[place].job for place in over if table.rows[place].job not in failed]
        self._leave(table, over)
        if table.rows:
            with table.base.model.autocast():
                table.speaking.feed(torch.cat([token for place, token in enumerate(chosen) if place not in over]))
        return done

    def _fail(self, job: Job, error: Exception) -> None:
        # one order that cannot be carried out ends none of the others
        if not isinstance(error, CharforgeError):
            LOG.error("an order failed", exc_info=error)
        job.tell(error)
