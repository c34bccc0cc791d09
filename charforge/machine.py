"""What this computer is, as far as the standard library can tell. Imports nothing heavy."""

from __future__ import annotations

import os
import platform
from pathlib import Path

GIB = 1 << 30
KERNELS_KEPT = 256
"""oneDNN keeps a compiled kernel for every shape it meets, 1,024 of them by default. Texts of many lengths make sixty
new shapes a step of `mini`: 25 MiB a step for nothing, because few lengths come again (docs/log.md)."""


def bound_kernel_caches() -> None:
    """Keep fewer compiled CPU kernels, unless the environment says how many. Works before the first product only."""
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(KERNELS_KEPT))


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
