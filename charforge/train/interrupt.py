"""Ctrl-C and SIGTERM: the step is finished, or given up after ten seconds; what was learned is saved first."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from charforge.errors import Interrupted

PATIENCE = 10.0
"""Seconds that a step may still take."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Answers the first SIGINT or SIGTERM with a checkpoint; a second one ends the process at once.

    A loop says with :meth:`saving` how its state is saved, and with :meth:`settled`, after each step, that the state is
    whole. The signal is obeyed there. Where a step takes longer than ``PATIENCE`` a second thread saves the state as it
    was before the step and ends the process: the main thread may sit in one long call that no signal reaches. Between
    :meth:`changing` and :meth:`settled` the state is in parts and that thread waits.

    With ``together`` several processes train in step: a signal to one of them is obeyed when :meth:`agree` has told all
    of them, after the same step.

    Outside of such a loop there is nothing to save, and the signal raises Interrupted at once. Signals reach the main
    thread alone: entered in another one, or not entered, this does nothing.
    """

    def __init__(
        self, tell: Callable[[str], None] = lambda line: None, go_on: str = "", together: bool = False
    ) -> None:
        self._together, self._agreed = together, False
        self._tell, self._go_on = tell, go_on
        self._lock, self._held = threading.Lock(), False
        self._save: Callable[[], None] | None = None
        self._requested = self._leaving = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._asked) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextmanager
    def saving(self, save: Callable[[], None]) -> Iterator[None]:
        """While the loop inside runs, ``save()`` writes its state; it may be called by another thread."""
        self._save = save
        try:
            yield
        finally:
            self._save = None
        if self._requested:
            # it came after the last step, which the loop has saved
            raise Interrupted(f"stopped and saved. {self._go_on}".strip())

    def changing(self, *_: object) -> None:
        """From here to :meth:`settled` the state is in parts. Serves as an optimiser's hook before its step."""
        if not self._held:
            self._lock.acquire()
            self._held = True

    @property
    def requested(self) -> bool:
        """Whether a signal has asked to stop."""
        return self._requested

    def agree(self, stop: bool) -> None:
        """All processes know now whether one of them was asked to stop."""
        self._agreed = self._agreed or stop

    def settled(self) -> None:
        """The state is whole. Raises Interrupted, after saving it, when a signal has asked to stop."""
        asked = self._agreed if self._together else self._requested
        if asked and self._save is not None:
            self.changing()
            self._leaving = True
            self._save()
        if self._held:
            self._held = False
            self._lock.release()
        if self._leaving:
            raise Interrupted(f"stopped and saved. {self._go_on}".strip())

    def _asked(self, number: int, frame: FrameType | None) -> None:
        for known in SIGNALS:
            signal.signal(known, signal.SIG_DFL)
        self._requested = True
        if self._save is None:
            raise Interrupted(f"stopped. {self._go_on}")
        threading.Thread(target=self._leave_in_time, daemon=True).start()

    def _leave_in_time(self) -> None:
        self._tell(f"stopping after this step, or in {PATIENCE:.0f} seconds; a second signal stops at once")
        if sys.stderr.isatty():
            # the bar hides it, and a second signal leaves no time to show it again
            sys.stderr.write("\x1b[?25h")
        waited = threading.Event()
        waited.wait(PATIENCE)
        whole = self._lock.acquire(timeout=PATIENCE)
        save = self._save
        if self._leaving or save is None:
            # the loop has come to an end by itself, and the main thread is on its way out
            if whole:
                self._lock.release()
            return
        line = "stopped in the middle of a step; what came after the last checkpoint is computed again."
        if whole:
            try:
                save()
                line = "stopped and saved; the step that was under way is computed again."
            except OSError as error:
                line = f"stopped; the state could not be saved ({error}), the last checkpoint stands."
        sys.stderr.write(f"\ncharforge: {line} {self._go_on}\n")
        sys.stderr.flush()
        os._exit(Interrupted.exit_code)
