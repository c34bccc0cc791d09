"""What this computer is, as far as the standard library can tell. Imports nothing heavy."""

from __future__ import annotations

import os
import platform
from pathlib import Path

GIB = 1 << 30


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def host_memory_gib() -> float | None:
    """Installed memory; None where the system does not say (Windows)."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    except (AttributeError, ValueError, OSError):
        return None


def available_host_gib() -> float | None:
    """Memory that programs can still have without swapping; installed memory where only that is known."""
    try:
        for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 / GIB
    except OSError:
        pass  # not Linux
    return host_memory_gib()
