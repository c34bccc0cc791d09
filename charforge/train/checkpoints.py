"""Atomic checkpoints: adapter, optimiser and step in one safetensors file. Resuming is exact to the bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from charforge.files import write_atomic_with

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_checkpoint(
    path: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    step: int,
    notes: dict[str, object],
    others: Mapping[str, Tensor] = MappingProxyType({}),
) -> None:
    """Write parameters and AdamW state (fp32) after ``step`` steps, and ``others``. ``notes`` must be JSON."""
    state = {f"parameter.{name}": p.detach().cpu().contiguous() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        for moment, value in optimizer.state[parameter].items():
            state[f"{moment}.{name}"] = value.detach().cpu().contiguous()
    state |= {f"other.{name}": tensor.detach().cpu().contiguous() for name, tensor in others.items()}
    metadata = {"step": str(step), "notes": json.dumps(notes)}
    write_atomic_with(path, lambda temporary: save_file(state, temporary, metadata))


def load_checkpoint(
    path: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    others: Mapping[str, Tensor] = MappingProxyType({}),
) -> tuple[int, dict[str, object]]:
    """Fill parameters, optimiser and ``others`` from ``path``; returns the step to go on from and the notes."""
    state = load_file(path)
    with torch.no_grad():
        for name, tensor in others.items():
            tensor.copy_(state[f"other.{name}"])
        for name, parameter in parameters.items():
            parameter.copy_(state[f"parameter.{name}"])
            moments = {m: state[f"{m}.{name}"] for m in MOMENTS if f"{m}.{name}" in state}
            if moments:
                device = parameter.device
                optimizer.state[parameter] = {
                    m: value.to(device) if m != "step" else value for m, value in moments.items()
                }
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    return int(metadata["step"]), json.loads(metadata["notes"])


def load_best(parameters: dict[str, nn.Parameter], file: Path) -> None:
    """Put the best adapter in place of the last; without one (nothing improved) the last stays."""
    if file.exists():
        state = load_file(file)
        for name, parameter in parameters.items():
            parameter.data.copy_(state[f"parameter.{name}"])
