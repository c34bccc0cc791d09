"""Which kernels a step spends its time in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from charforge.device import wait_for

TOP = 20


@dataclass(frozen=True)
class Kernel:
    """One kind of kernel: calls, milliseconds in all, and its share of all kernels' time.

    On a CPU it is an operation without those that it calls.
    """

    name: str
    calls: int
    ms: float
    share: float


@dataclass(frozen=True)
class Profile:
    """``busy_ms`` of the device in one step that took ``wall_ms``; kernels, the longest first."""

    wall_ms: float
    busy_ms: float
    kernels: tuple[Kernel, ...]


def profile_step(step: Callable[[], object], device: str, top: int = TOP) -> Profile:
    """Run ``step`` twice and profile the second time. The profiler itself costs a part of ``wall_ms``."""
    on_cuda = device.startswith("cuda")
    step()
    wait_for(device)
    began = time.perf_counter()
    # of a card its own activity alone: to sort what the host did takes longer than all other measurements
    with profile(activities=[ProfilerActivity.CUDA if on_cuda else ProfilerActivity.CPU]) as seen:
        step()
        wait_for(device)
    wall = 1000 * (time.perf_counter() - began)
    # on a card the lines of operations repeat the time of the kernels that they start: kernels alone are counted
    cuda = torch.autograd.DeviceType.CUDA
    rows = [row for row in seen.key_averages() if not on_cuda or row.device_type == cuda]
    times = [(row.key, row.count, (row.self_device_time_total if on_cuda else row.self_cpu_time_total)) for row in rows]
    busy = sum(spent for *_, spent in times)
    longest = sorted(times, key=lambda row: -row[2])[:top]
    kernels = tuple(Kernel(name, calls, spent / 1000, spent / busy) for name, calls, spent in longest if spent > 0)
    return Profile(wall, busy / 1000, kernels)
