"""Where to compute, and whether bf16 is multiplied there. Loads torch when it is asked, not before."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from charforge.errors import InputError, MachineError

if TYPE_CHECKING:
    import torch


def default_device() -> str:
    """The first CUDA card, Apple's GPU, or the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def chosen_device(name: str | None) -> str:
    """``name`` (cpu, cuda, cuda:1, mps) where this machine has it; :func:`default_device` for None.

    Raises InputError for another name and MachineError for a device that is not here.
    """
    if name is None:
        return default_device()
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise InputError(f"--device {name}: use cpu, cuda, cuda:1 or mps")
    import torch

    kind, _, number = name.partition(":")
    cards = torch.cuda.device_count() if kind == "cuda" and torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= cards:
        here = f"{cards} CUDA cards" if cards else "no CUDA card that torch can reach"
        raise MachineError(f"--device {name}: there is {here} here (`charforge doctor` says more); use --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise MachineError("--device mps: there is no Apple GPU that torch can reach; use --device cpu")
    if number:
        # what asks for "the" card, such as free memory, means this one from now on
        torch.cuda.set_device(int(number))
    return name


def wait_for(device: str | torch.device) -> None:
    """Return when ``device`` has done all that was asked of it: before the clock is read. A CPU always has."""
    import torch

    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize()


def multiplies_bf16(device: str) -> bool:
    """Whether ``device`` multiplies bf16 at full speed and rightly."""
    if device == "cpu":
        import torch

        return torch.cpu._is_avx512_bf16_supported()
    # older macOS and chips know the type and refuse, or miscompute, its products
    return _right_product(device) if device == "mps" else True


@cache
def _right_product(device: str) -> bool:
    """A small product in bf16 on ``device`` against the same one in fp32 on the CPU."""
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(32, 32, generator=generator) for _ in range(2))
    try:
        got = (a.to(device, torch.bfloat16) @ b.to(device, torch.bfloat16)).float().cpu()
    except (RuntimeError, TypeError):
        return False
    return torch.allclose(got, a @ b, rtol=0.05, atol=0.5)
