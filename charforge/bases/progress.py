"""A bar on stderr for what takes more than a moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_OF_SILENCE = 2.0


@contextmanager
def byte_progress(what: str, silent_for: float = SECONDS_OF_SILENCE) -> Iterator[Callable[[int, int], None]]:
    """``report(bytes done, bytes in all)`` draws a bar after ``silent_for`` seconds; it vanishes at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=None)
    begun, shown = time.monotonic(), False

    def report(done: int, of: int) -> None:
        nonlocal shown
        bar.update(task, completed=done, total=of)
        if not shown and time.monotonic() - begun > silent_for:
            bar.start()
            shown = True

    try:
        yield report
    finally:
        bar.stop()


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """``report(done, of)`` draws a bar of things done; it vanishes at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
