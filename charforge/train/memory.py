"""What fits: gradients in pieces, and what is given up, step by step, when the memory of a GPU ends."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from charforge.errors import MachineError
from charforge.families.protocol import UnifiedModel
from charforge.files import write_atomic
from charforge.settings import MemorySettings, Settings

Item = TypeVar("Item")
Result = TypeVar("Result")


def pieces(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """``items`` in order, ``size`` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


@dataclass
class Memory:
    """How many pictures or texts go through the model at a time, and whether layers are computed twice.

    Found by trying: what does not fit is tried again with less at a time. In order: half as many
    samples at a time, down to one; then the activations of each layer are computed again in the backward pass instead
    of kept. The result is the same in all cases. ``tell`` hears of every reduction; with ``file`` what fits is
    remembered there, so that a run that continues does not have to find it again.
    """

    model: UnifiedModel
    settings: MemorySettings = field(default_factory=MemorySettings)
    tell: Callable[[str], None] = lambda line: None
    file: Path | None = None
    micro_batch: int = field(init=False)

    def __post_init__(self) -> None:
        self.micro_batch = self.settings.micro_batch
        self.checkpoint_layers = self.settings.checkpoint_layers
        if self.file is not None and self.file.exists():
            known = json.loads(self.file.read_text("utf-8"))
            self.micro_batch = min(self.micro_batch, known["micro_batch"])
            self.checkpoint_layers = self.checkpoint_layers or known["checkpoint_layers"]

    @property
    def checkpoint_layers(self) -> bool:
        return self.model.recompute_layers

    @checkpoint_layers.setter
    def checkpoint_layers(self, value: bool) -> None:
        self.model.recompute_layers = value

    def fit(self, work: Callable[[int], Result], parameters: Sequence[nn.Parameter] = ()) -> Result:
        """``work(micro_batch)``, which may add to the gradients of ``parameters`` (none are set before).

        Raises MachineError when nothing is left to give up.
        """
        while True:
            try:
                return work(self.micro_batch)
            except torch.OutOfMemoryError as error:
                problem = str(error).split(". ")[0]
            # outside the handler: the exception keeps the failed pass, and with it its memory, alive
            for parameter in parameters:
                # half a backward pass has left something behind
                parameter.grad = None
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._step_down(problem)

    def _step_down(self, problem: str) -> None:
        if self.micro_batch > 1:
            self.micro_batch = -(-self.micro_batch // 2)
            self.tell(f"a step did not fit ({problem}): going on with {self.micro_batch} samples at a time")
        elif not self.checkpoint_layers:
            self.checkpoint_layers = True
            self.tell(f"one sample did not fit ({problem}): going on with memory.checkpoint_layers = true, slower")
        else:
            raise MachineError(
                f"one sample at a time does not fit ({problem}): use a preset for a smaller card, --quantize nf4, or "
                "smaller pictures (pictures.longest_side)"
            )
        if self.file is not None:
            known = {"micro_batch": self.micro_batch, "checkpoint_layers": self.checkpoint_layers}
            write_atomic(self.file, json.dumps(known))


def memory_of_second_stage(
    model: UnifiedModel, settings: Settings, tell: Callable[[str], None] = lambda line: None, file: Path | None = None
) -> Memory:
    """Rollouts and updates go in pieces of ``grpo.micro_batch``, or smaller where a run has remembered less."""
    return Memory(model, settings.memory.model_copy(update={"micro_batch": settings.grpo.micro_batch}), tell, file)
