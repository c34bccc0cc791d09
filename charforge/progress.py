"""What people see on stderr while they wait: a bar on a terminal, plain lines everywhere else, nothing with --quiet."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol

from charforge.words import printable, printable_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

Verbosity = Literal["quiet", "normal", "verbose"]
Report = Callable[[int, int], None]

verbosity: ContextVar[Verbosity] = ContextVar("verbosity", default="normal")
"""What --quiet and --verbose set for the whole command."""

EVERY_SECONDS, VERBOSE_SECONDS = 30.0, 5.0
TICK_SECONDS = 1.0
SECONDS_OF_SILENCE = 2.0


class Display(Protocol):
    """Shows one thing at a time that takes a while."""

    def begin(self, name: str, total: int | None = None) -> None:
        """Name what is going on, and how many parts it has (None: nobody knows)."""

    def update(self, completed: int, total: int | None = None, text: str = "") -> None:
        """So many parts are done; ``text`` says what there is to say of them."""

    def note(self, line: str) -> None:
        """A line that stays."""

    def stop(self) -> None:
        """Nothing is going on any more."""


class Silence:
    """Shows nothing: --quiet."""

    def begin(self, name: str, total: int | None = None) -> None: ...
    def update(self, completed: int, total: int | None = None, text: str = "") -> None: ...
    def note(self, line: str) -> None: ...
    def stop(self) -> None: ...


class Lines:
    """A line when something begins and one every ``every`` seconds with how far it is, for logs and pipes.

    Nothing is said of what ends within ``silent_for`` seconds. ``count`` words how much of how much is done; ``now`` is
    a clock in seconds. Safe to tick from another thread.
    """

    def __init__(
        self, write: Callable[[str], object], count: Callable[[int, int | None], str],
        now: Callable[[], float] = time.monotonic, every: float = EVERY_SECONDS, silent_for: float = 0.0,
    ) -> None:  # fmt: skip
        self._write, self._count, self._now, self._every, self._silent_for = write, count, now, every, silent_for
        # a signal's handler may note something in the middle of an update
        self._lock = threading.RLock()
        self._name, self._text, self._named = "", "", False
        self._completed: int | None = None
        self._total: int | None = None
        self._start = (0.0, 0)
        self._began = self._told = now()

    def begin(self, name: str, total: int | None = None) -> None:
        with self._lock:
            self._name, self._total, self._text, self._completed = name, total, "", None
            self._began = self._told = self._now()
            self._named = False
        self.tick()

    def update(self, completed: int, total: int | None = None, text: str = "") -> None:
        with self._lock:
            if self._completed is None:
                # what was done before (a run that is continued) says nothing about the pace
                self._start = (self._now(), completed)
            self._completed, self._total, self._text = completed, total or self._total, text or self._text
        self.tick()

    def note(self, line: str) -> None:
        with self._lock:
            self._write(line)

    def tick(self) -> None:
        """Write what is going on, or how far it is, where that is due."""
        with self._lock:
            now = self._now()
            if not self._name:
                return
            if not self._named:
                if now - self._began >= self._silent_for:
                    self._named = True
                    self._write(self._name)
            elif now - self._told >= self._every:
                self._told = now
                self._write(self._line())

    def stop(self) -> None:
        with self._lock:
            self._name = ""

    def _line(self) -> str:
        if self._completed is None:
            return f"{self._name}: {duration(self._now() - self._began)} so far"
        parts = [f"{self._name}: {self._count(self._completed, self._total)}", self._text]
        began, done = self._start
        if self._total is not None and self._completed > done:
            pace = (self._now() - began) / (self._completed - done)
            parts.append(f"{duration(pace * max(0, self._total - self._completed))} left")
        return ", ".join(part for part in parts if part)


class Bar:
    """A bar of rich on a terminal, with a text that changes; there from the first beginning on."""

    def __init__(self, columns: tuple[ProgressColumn, ...], transient: bool) -> None:
        from rich.progress import Progress

        self._bar = Progress(*columns, console=terminal(), transient=transient)
        self._name = ""

    def begin(self, name: str, total: int | None = None) -> None:
        # a task of its own: a reset one would keep its old total where nobody knows the new one
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._name, self._task = name, self._bar.add_task(name, total=total)
        self._bar.start()

    def update(self, completed: int, total: int | None = None, text: str = "") -> None:
        shown = f"{self._name}: {text}" if text else None
        self._bar.update(self._task, completed=completed, total=total, description=shown)

    def note(self, line: str) -> None:
        from rich.text import Text

        # what is noted may carry names of the user's: never markup
        self._bar.console.print(Text(printable(line)))

    def stop(self) -> None:
        # one that never began has drawn nothing
        if self._name:
            self._bar.stop()


@cache
def terminal() -> Console:
    """The one console on stderr: a bar that begins inside another one has to share it."""
    from rich.console import Console

    return Console(stderr=True)


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def things(completed: int, total: int | None) -> str:
    """ "3 of 20"."""
    return f"{completed:,}" if total is None else f"{completed:,} of {total:,}"


def gigabytes(completed: int, total: int | None) -> str:
    """ "1.25 of 30.00 GB"."""
    return f"{completed / 1e9:.2f} GB" if total is None else f"{completed / 1e9:.2f} of {total / 1e9:.2f} GB"


def _things_columns() -> tuple[ProgressColumn, ...]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip


def _bytes_columns() -> tuple[ProgressColumn, ...]:
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return (
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip


def write_line(line: str) -> None:
    """A line on stderr that is there at once, also in a pipe; one that nobody reads any more ends no run."""
    with suppress(BrokenPipeError):
        sys.stderr.write(printable(line) + "\n")
        sys.stderr.flush()


def say_line(line: str) -> None:
    """A line for a person on stderr; nothing with --quiet."""
    if verbosity.get() != "quiet":
        write_line(line)


@contextmanager
def display(
    unit: Literal["things", "bytes"] = "things", transient: bool = True, silent_for: float = 0.0
) -> Iterator[Display]:
    """The display that fits this command and this stderr.

    What is ``transient`` leaves nothing on a terminal; what ends within ``silent_for`` seconds writes no plain line.
    """
    if verbosity.get() == "quiet":
        yield Silence()
    elif terminal().is_terminal:
        bar = Bar(_things_columns() if unit == "things" else _bytes_columns(), transient)
        try:
            yield bar
        finally:
            bar.stop()
    else:
        every = VERBOSE_SECONDS if verbosity.get() == "verbose" else EVERY_SECONDS
        lines = Lines(write_line, things if unit == "things" else gigabytes, every=every, silent_for=silent_for)
        with _ticking(lines):
            yield lines


@contextmanager
def _ticking(lines: Lines) -> Iterator[None]:
    """Let the lines come also while one step takes minutes."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(TICK_SECONDS):
            lines.tick()

    ticker = threading.Thread(target=tick, name="progress lines", daemon=True)
    ticker.start()
    try:
        yield
    finally:
        ended.set()
        ticker.join()
        lines.stop()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A sign of life while something takes some seconds that nobody can count."""
    with display(silent_for=SECONDS_OF_SILENCE) as shown:
        # names of characters and files are anybody's
        shown.begin(printable_line(what))
        yield


@contextmanager
def counting(what: str, unit: Literal["things", "bytes"] = "things") -> Iterator[Report]:
    """``report(done, of)`` shows how far ``what`` is; shown from the first report on."""
    with display(unit) as shown:
        begun = False

        def report(done: int, of: int) -> None:
            nonlocal begun
            if not begun:
                shown.begin(printable_line(what), of)
                begun = True
            shown.update(done, of)

        yield report


@contextmanager
def byte_progress(
    what: str, silent_for: float = SECONDS_OF_SILENCE, now: Callable[[], float] = time.monotonic
) -> Iterator[Report]:
    """``report(bytes done, bytes in all)`` shows how far ``what`` is once it has taken ``silent_for`` seconds."""
    with counting(what, "bytes") as shown:
        began = now()

        def report(done: int, of: int) -> None:
            if now() - began >= silent_for:
                shown(done, of)

        yield report
