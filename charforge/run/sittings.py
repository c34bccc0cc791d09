"""How long a run took and how much memory, over all the times that somebody worked on it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from charforge.files import write_atomic
from charforge.run.folder import read_json

PAUSE = 5.0
"""Seconds between two writes: as much is lost from the sum when the process is killed."""


class Sittings:
    """The list in ``file``: when each sitting began, its seconds and its largest memory so far.

    ``peak_memory_gib`` tells the largest memory of this process so far.
    """

    def __init__(self, file: Path, peak_memory_gib: Callable[[], float]) -> None:
        self._file, self._peak_memory_gib = file, peak_memory_gib
        self._earlier: list[dict[str, Any]] = read_json(file) if file.exists() else []
        self._began, self._when = time.monotonic(), datetime.now().isoformat(" ", "seconds")
        self._written = -PAUSE

    def __enter__(self) -> Self:
        self.keep()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._written = -PAUSE
        try:
            self.keep()
        except OSError:
            # a full disk: what ended the sitting says it already
            if error is None:
                raise

    def keep(self) -> None:
        """Write this sitting as it stands, unless it was written a moment ago."""
        if time.monotonic() - self._written >= PAUSE:
            write_atomic(self._file, json.dumps(self._all(), indent=1))
            self._written = time.monotonic()

    @property
    def seconds(self) -> float:
        """Of all sittings together."""
        return sum(float(sitting["seconds"]) for sitting in self._all())

    @property
    def peak_memory_gib(self) -> float:
        """The largest of all sittings."""
        return max(float(sitting["peak_memory_gib"]) for sitting in self._all())

    def _all(self) -> list[dict[str, Any]]:
        seconds, peak = round(time.monotonic() - self._began, 1), round(self._peak_memory_gib(), 2)
        return [*self._earlier, {"began": self._when, "seconds": seconds, "peak_memory_gib": peak}]
