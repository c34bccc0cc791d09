"""Seconds and memory of a piece of work."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from charforge.device import wait_for
from charforge.machine import GIB, peak_memory_gib

_CLEAR_PEAK, _WAITING = Path("/proc/self/clear_refs"), Path("/proc/self/schedstat")


@dataclass(frozen=True)
class Reading:
    """Seconds of the middle run, how many were timed, and the highest memory of all of them."""

    seconds: float
    repeats: int
    peak_gib: float


class Meter:
    """Measures on one device. On CUDA cards memory is what PyTorch allocated at most, everything included.

    On a CPU, and on Apple's GPU, which shares the host's memory, it is the process's highest resident memory less what
    it held when the meter was made. Linux lets a process forget its peak, so each piece of work gets its own there
    (``own_peaks``); elsewhere it is the peak so far. ``reserved_gib`` is the most that PyTorch held on a card, gaps
    included.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.on_card = device.startswith("cuda")
        self.own_peaks = _forget_host_peak() or self.on_card
        self._resting = peak_memory_gib()
        self.reserved_gib = 0.0

    def reset(self) -> None:
        """Forget the peak and give unused memory back."""
        gc.collect()
        if self.on_card:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            _return_free_memory()
            _forget_host_peak()

    def peak_gib(self) -> float:
        """The highest memory since the last reset."""
        return torch.cuda.max_memory_allocated() / GIB if self.on_card else self.host_peak_gib()

    def held_gib(self) -> float:
        """What is in use now."""
        if self.on_card:
            return torch.cuda.memory_allocated() / GIB
        import psutil

        return max(0.0, psutil.Process().memory_info().rss / GIB - self._resting)

    def runtime_gib(self) -> float | None:
        """What is in use on a card beside PyTorch's own: the runtime of CUDA, and other programs. None on others."""
        if not self.on_card:
            return None
        free, total = torch.cuda.mem_get_info()
        return (total - free - torch.cuda.memory_reserved()) / GIB

    def host_peak_gib(self) -> float:
        """The highest memory of this process on the host, less what it held at the start."""
        return max(0.0, peak_memory_gib() - self._resting)

    def wait(self) -> None:
        """Return when the device has done all that was asked of it."""
        wait_for(self.device)

    def measure(self, work: Callable[[], object], repeats: int) -> Reading:
        """Run ``work`` once to warm up, then ``repeats`` times."""
        self.reset()
        times = []
        for _ in range(repeats + 1):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - began)
        if self.on_card:
            self.reserved_gib = max(self.reserved_gib, torch.cuda.max_memory_reserved() / GIB)
        return Reading(statistics.median(times[1:]), repeats, self.peak_gib())


def did_not_fit(error: BaseException | None) -> bool:
    """Whether an error is, or was caused by, a lack of memory."""
    return error is not None and (isinstance(error, torch.OutOfMemoryError) or did_not_fit(error.__cause__))


def waiting_seconds() -> float | None:
    """How long this process's first thread has waited for a processor that others used; None where nobody counts."""
    try:
        return int(_WAITING.read_text("utf-8").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None


def _return_free_memory() -> None:
    """Let the C library give freed memory back, where it can (glibc): it would count for the next piece of work."""
    with suppress(AttributeError, TypeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _forget_host_peak() -> bool:
    """Reset the peak of resident memory where the system can (Linux); False elsewhere."""
    try:
        _CLEAR_PEAK.write_text("5")
    except OSError:
        return False
    return True
