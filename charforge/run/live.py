"""The page of a run while it runs: there from the first step, written again as often as that costs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from charforge.errors import Interrupted
from charforge.files import write_atomic
from charforge.run.folder import read_result
from charforge.run.metrics import read_metrics
from charforge.run.report import About, page, state_of

PAUSE = 15.0
"""Seconds between two writes at least."""
SHARE = 0.01
"""Of the time of a run that writing the page may take: where it takes longer it is written less often."""


class LivePage:
    """Writes ``report.html`` of ``run`` while it runs, and once more where it ends early.

    ``describe`` makes what the page says of the run itself, when the first page is due; ``check`` raises when this
    process may not write any more. What goes wrong here ends no run: ``tell`` hears of it once, and no page is written
    any more until the stage ends.
    """

    def __init__(
        self, run: Path, describe: Callable[[], About], tell: Callable[[str], None],
        check: Callable[[], None] = lambda: None, now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._run, self._describe, self._tell, self._check, self._now = run, describe, tell, check, now
        self._about: About | None = None
        self._next: float | None = None
        self._given_up = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._next is None or error is None:
            # nothing was written, or the report of the last stage is there
            return
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        self._write("interrupted" if stopped else f"failed: {error}", refresh=0)

    def keep(self) -> None:
        """Write the page if that is due."""
        if not self._given_up and (self._next is None or self._now() >= self._next):
            self._write(None, refresh=int(PAUSE) * 2)

    def _write(self, words: str | None, refresh: int) -> None:
        began = self._now()
        try:
            self._check()
            self._about = self._about or self._describe()
            lines, result = read_metrics(self._run), read_result(self._run)
            state = state_of(lines, self._about.settings, words, refresh)
            write_atomic(
                self._run / "report.html", page(self._run, self._about, lines, state, result, True, inline=False)
            )
        except Exception as error:
            self._given_up = True
            self._tell(f"the live page could not be written ({error}): training goes on, the report comes at the end")
        ended = self._now()
        self._next = ended + max(PAUSE, (ended - began) / SHARE)
