"""Several processes that train one adapter: each computes the gradient of its share of a step, the sum moves all.

They are started by `accelerate launch` or torchrun and found here through accelerate. Every process draws the same
samples and the same noise for a step and takes its part of them; losses are divided by the tokens of the whole step,
so the sum of the parts is the gradient of one process, up to the order in which floating-point numbers are added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn

from charforge.errors import InputError, MachineError
from charforge.machine import launched_as

Value = TypeVar("Value")
PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: the first one measures and draws while they do."""


class TeamBroken(MachineError):
    """Another process of the job has ended."""


@dataclass(frozen=True)
class Team:
    """This process is number ``rank`` of ``size``; number 0 writes the run."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this is the process that measures, draws and writes."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of ``count`` samples this process computes: neighbours, which may begin alike and are read together."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def add_up(self, parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> list[Tensor]:
        """Give each parameter the sum of its gradients over all processes; returns the sums of ``values`` (scalars).

        A parameter that no process has a gradient for keeps none. Raises TeamBroken.
        """
        if self.size == 1:
            return list(values)
        from accelerate.utils import reduce

        device = parameters[0].device
        has = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        rest = [value.detach().float().to(device).reshape(1) for value in values]
        flat = torch.cat([gradient.float().flatten() for gradient in gradients] + [has, *rest])
        total = _together(lambda: reduce(flat, reduction="sum"))
        parts = total.split([p.numel() for p in parameters] + [len(has), len(rest)])
        for parameter, part, number in zip(parameters, parts, parts[-2].tolist(), strict=False):
            parameter.grad = part.view_as(parameter).to(parameter.dtype) if number else None
        return list(parts[-1])

    def told(self, value: Value) -> Value:
        """What the first process says; ``value`` of the others is dropped. Raises TeamBroken."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        said = [value]
        _together(lambda: broadcast_object_list(said))
        return said[0]

    def everyone(self, value: Value) -> list[Value]:
        """What each process says, by rank; nobody goes on before all have said it. Raises TeamBroken."""
        if self.size == 1:
            return [value]
        from accelerate.utils import gather_object

        said: list[Value] = _together(lambda: gather_object([value]))
        return said

    def check_alike(self, state: object) -> None:
        """Raises MachineError where the processes have read different checkpoints, TeamBroken."""
        if any(other != state for other in self.everyone(state)):
            raise MachineError(
                "the processes of this job have read different checkpoints: the run folder has to lie on storage that "
                "all of them see"
            )


ALONE = Team()


def find_team(device: str) -> Team:
    """The team that this process belongs to, by the environment that accelerate and torchrun set; :data:`ALONE` where
    there is none. ``device`` is what the user asked to compute on.

    Raises InputError where the device is one card by its number, MachineError when the others do not come.
    """
    if launched_as()[1] < 2:
        return ALONE
    if ":" in device:
        raise InputError(f"--device {device}: several processes take a card each; leave the option out")
    from accelerate import PartialState

    try:
        state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise MachineError(f"the processes of this job did not come together ({error})") from error
    return Team(state.process_index, state.num_processes)


def _together(work: Callable[[], Value]) -> Value:
    try:
        return work()
    except RuntimeError as error:
        raise TeamBroken(
            f"another process of this job has ended ({str(error).splitlines()[0][:200]}). What was learned is saved; "
            "the same command goes on, with any number of processes"
        ) from error
