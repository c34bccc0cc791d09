"""What this computer is, and how much of it charforge takes. Imports nothing heavy."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import MutableMapping
from pathlib import Path

GIB = 1 << 30
KERNELS_KEPT = 256
"""oneDNN keeps a compiled kernel for every shape it meets, 1,024 of them by default. Texts of many lengths make sixty
new shapes a step of `mini`: 25 MiB a step for nothing, because few lengths come again (docs/log.md)."""

WAIT_POLICY = "OMP_WAIT_POLICY"
SPINNING = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What tells OpenMP how long an idle thread spins: the standard's variable, and those of GNU (torch on Linux) and of
LLVM and Intel (torch on macOS and Windows), which go before it."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
LOOK_SECONDS = 0.2
"""How long other programs are watched: the system counts in hundredths of a second."""
CGROUPS = Path("/sys/fs/cgroup")


def bound_kernel_caches() -> None:
    """Keep fewer compiled CPU kernels, unless the environment says how many. Works before the first product only."""
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(KERNELS_KEPT))


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's idle threads sleep instead of spinning. Works before torch is loaded only.

    A thread that spins takes its core from whoever has work to do there, other programs and charforge's own threads.
    What the user has set about it stays.
    """
    if not any(name in environment for name in SPINNING):
        environment[WAIT_POLICY] = "PASSIVE"


def set_threads(threads: int | None, environment: MutableMapping[str, str] = os.environ) -> None:
    """Compute with ``threads``, or with what the environment says, or with :func:`idle_cores`.

    Works before torch is loaded only.
    """
    if threads is not None:
        for name in THREADS:
            environment[name] = str(threads)
    elif not any(name in environment for name in THREADS):
        environment[THREADS[0]] = str(idle_cores())


def idle_cores() -> int:
    """Physical cores that this process may use and that no other program keeps busy now; at least 1."""
    import psutil

    logical = psutil.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or logical
    process = psutil.Process()
    # macOS has no such thing
    allowed = process.cpu_affinity() if hasattr(process, "cpu_affinity") else list(range(logical))
    shares = psutil.cpu_percent(LOOK_SECONDS, percpu=True)
    # processors can be taken away while the system runs
    busy = [shares[cpu] / 100 for cpu in allowed if cpu < len(shares)]
    return threads_for(physical, logical, busy, cgroup_cores())


def threads_for(physical: int, logical: int, busy: list[float], limit: float | None) -> int:
    """Threads for a machine of so many cores and processors.

    ``busy`` is the share (0 to 1) of each processor that this process may use and that others take; ``limit`` is how
    many processors' time it may have (None: no limit). Two processors of one core share its arithmetic.
    """
    mine = min(physical, math.ceil(len(busy) * physical / logical))
    idle = mine - round(sum(busy))
    return max(1, idle if limit is None else min(idle, math.floor(limit)))


def cgroup_cores(root: Path = CGROUPS) -> float | None:
    """How many processors' time a container may have, version 2 or 1 of Linux's control groups; None: no limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((root / name).read_text("utf-8") for name in files).split()
            if quota != "max" and int(quota) > 0:
                return int(quota) / int(period)
        except (OSError, ValueError):
            continue  # no such group: another version, or another system
    return None


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
