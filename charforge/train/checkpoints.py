"""Atomic checkpoints: adapter, optimiser and step in one safetensors file. Resuming is exact to the bit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from charforge.errors import InputError
from charforge.tensor_files import write_tensors

OPTIMIZER = "optimizer."


def save_checkpoint(
    path: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    step: int,
    notes: dict[str, object],
    others: Mapping[str, Tensor] = MappingProxyType({}),
) -> None:
    """Write parameters and optimiser state after ``step`` steps, and ``others``. ``notes`` must be JSON."""
    state = {f"parameter.{name}": p.detach().cpu().contiguous() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        for part, value in optimizer.state[parameter].items():
            # bitsandbytes counts its steps in a plain number; clone: it shares one table among all parameters
            state[f"{OPTIMIZER}{part}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous().clone()
    state |= {f"other.{name}": tensor.detach().cpu().contiguous() for name, tensor in others.items()}
    metadata = {"step": str(step), "notes": json.dumps(notes)}
    write_tensors(path, state, metadata)


def load_checkpoint(
    path: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    others: Mapping[str, Tensor] = MappingProxyType({}),
) -> tuple[int, dict[str, object]]:
    """Fill parameters, optimiser and ``others`` from ``path``; returns the step to go on from and the notes.

    Raises InputError when the file is damaged.
    """
    with _readable(path):
        state = load_file(path)
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata()
        step, notes = int(metadata["step"]), json.loads(metadata["notes"])
        missing = [name for name in parameters if f"parameter.{name}" not in state]
        if missing:
            raise KeyError(missing[0])
    with torch.no_grad():
        for name, tensor in others.items():
            tensor.copy_(state[f"other.{name}"])
        for name, parameter in parameters.items():
            parameter.copy_(state[f"parameter.{name}"])
    load_optimizer(optimizer, parameters, state)
    return step, notes


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Checkpoints are written whole or not at all: a damaged one was changed by somebody else, or by a failing disk."""
    try:
        yield
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"the checkpoint {path} is damaged ({error or type(error).__name__}): put a copy in its place, or begin "
            "the run anew with `charforge train --restart`, which keeps the old folder under another name"
        ) from error


def load_best(parameters: dict[str, nn.Parameter], file: Path) -> None:
    """Put the best adapter in place of the last; without one (nothing improved) the last stays.

    Raises InputError when the file is damaged.
    """
    if file.exists():
        with _readable(file):
            state = load_file(file)
            for name, parameter in parameters.items():
                parameter.data.copy_(state[f"parameter.{name}"])


def load_optimizer(
    optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], state: Mapping[str, Tensor]
) -> None:
    """Fill the optimiser's state from a checkpoint's tensors."""
    eight_bit = type(optimizer).__module__.startswith("bitsandbytes")
    for key, value in state.items():
        if key.startswith(OPTIMIZER):
            part, name = key.removeprefix(OPTIMIZER).split(".", 1)
            parameter = parameters[name]
            counted = eight_bit and part == "step"
            optimizer.state[parameter][part] = int(value) if counted else value.to(parameter.device)
