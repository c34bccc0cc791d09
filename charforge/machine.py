"""What this computer is, and how much of it charforge takes. Imports nothing heavy."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

GIB = 1 << 30
KERNELS_KEPT = 600
"""oneDNN keeps a compiled kernel for every shape it meets, 1,024 of them by default. Texts of many lengths make sixty
new shapes a step of `mini`: 25 MiB a step for nothing, because few lengths come again. With fewer than a step needs the
shapes that do come again are compiled anew every time: 256 made a step a sixth slower (docs/log.md)."""

WAIT_POLICY = "OMP_WAIT_POLICY"
SPINNING = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What tells OpenMP how long an idle thread spins: the standard's variable, and those of GNU (torch on Linux) and of
LLVM and Intel (torch on macOS and Windows), which go before it."""
SPINS, BLOCK_MILLISECONDS = "10000", "1"
"""About a tenth of a millisecond, and the shortest time but none that LLVM's and Intel's take (not measured)."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
CGROUPS = Path("/sys/fs/cgroup")


def bound_kernel_caches() -> None:
    """Keep fewer compiled CPU kernels, unless the environment says how many. Works before the first product only."""
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(KERNELS_KEPT))


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's idle threads spin for a moment and then sleep. Works before torch is loaded only.

    A thread that spins takes its core from whoever has work to do there: GNU's spins so long that beside other programs
    a step took 28 times its time. One that sleeps at once has to be woken thousands of times a step, which costs most
    of what a second thread brings (docs/log.md). What the user has set about it stays.
    """
    if not any(name in environment for name in SPINNING):
        environment["GOMP_SPINCOUNT"], environment["KMP_BLOCKTIME"] = SPINS, BLOCK_MILLISECONDS


def set_threads(threads: int | None, environment: MutableMapping[str, str] = os.environ) -> None:
    """Compute with ``threads``, or with what the environment says, or with :func:`usable_cores`.

    Works before torch is loaded only.
    """
    if threads is not None:
        for name in THREADS:
            environment[name] = str(threads)
    elif not any(name in environment for name in THREADS):
        environment[THREADS[0]] = str(usable_cores())


def usable_cores() -> int:
    """Physical cores that this process may use; at least 1.

    Those that other programs keep busy at the moment count too: with waiting threads that sleep two threads are not
    slower than one beside ten other programs (docs/log.md), and what is busy when a run of an hour begins is not busy
    for an hour.
    """
    import psutil

    logical = psutil.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or logical
    process = psutil.Process()
    # macOS has no such thing
    allowed = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else logical
    return threads_for(physical, logical, allowed, cgroup_cores())


def threads_for(physical: int, logical: int, allowed: int, limit: float | None) -> int:
    """Threads for a machine of so many cores and processors, of which this process may use ``allowed`` processors and
    ``limit`` processors' time (None: no limit). Two processors of one core share its arithmetic.
    """
    mine = min(physical, math.ceil(allowed * physical / logical))
    return max(1, mine if limit is None else min(mine, math.floor(limit)))


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


def launched_as(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Which process this is of how many that `accelerate launch` or torchrun have started together: (0, 1) alone."""
    return int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1"))


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux, or one that hides it
    return platform.processor() or platform.machine()


def host_memory_gib() -> float:
    """Installed memory, or what a container may have of it."""
    import psutil

    total, limit = psutil.virtual_memory().total / GIB, cgroup_memory()
    return total if limit is None else min(total, limit[0])


def available_host_gib() -> float:
    """Memory that programs can still have without swapping, in a container what is left of its share."""
    import psutil

    available, limit = psutil.virtual_memory().available / GIB, cgroup_memory()
    return available if limit is None else min(available, limit[0] - limit[1])


def cgroup_memory(root: Path = CGROUPS) -> tuple[float, float] | None:
    """GiB that a container may have and that it uses beside files that can be dropped; None: no limit."""
    groups = (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    )
    for limit, usage, statistics, droppable in groups:
        try:
            most = int((root / limit).read_text("utf-8"))
            told = dict(line.split(maxsplit=1) for line in (root / statistics).read_text("utf-8").splitlines())
            used = int((root / usage).read_text("utf-8")) - int(told.get(droppable, "0"))
        except (OSError, ValueError):
            continue  # "max", another version, or another system
        # version 1 writes "no limit" as a number that no machine has
        return (most / GIB, used / GIB) if most < 1 << 60 else None
    return None


_seen_gib = 0.0


def begin_peak_memory() -> None:
    """Let :func:`peak_memory_gib` count from what is taken now. Where the system cannot (all but Linux), the peak stays
    that of the whole process."""
    global _seen_gib
    _seen_gib = 0.0
    try:
        # "5": forget the largest resident size (man 5 proc)
        Path("/proc/self/clear_refs").write_text("5", "utf-8")
    except OSError:
        return  # another system, or one that hides its processes


def peak_memory_gib() -> float:
    """The largest resident memory of this process so far.

    Where the system keeps no such figure it is the largest that was seen at the calls of this function.
    """
    global _seen_gib
    if (kept := _kept_peak()) is not None:
        return kept / GIB
    import psutil

    _seen_gib = max(_seen_gib, psutil.Process().memory_info().rss / GIB)
    return _seen_gib


def _kept_peak() -> int | None:
    """Bytes, where the system keeps them: Linux, Windows, then other systems with getrusage (macOS counts bytes)."""
    import psutil

    try:
        # before getrusage: on Linux a process inherits the peak of the one that started it
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        pass  # not Linux, or one that hides its processes
    if (peak := getattr(psutil.Process().memory_info(), "peak_wset", None)) is not None:
        return int(peak)
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
