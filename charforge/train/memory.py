"""Backward passes in pieces that fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from charforge.errors import MachineError

Item = TypeVar("Item")


@dataclass
class MicroBatches:
    """How many pictures go through the model at a time; found by trying and remembered for the rest of the run."""

    size: int

    def run(
        self, items: Sequence[Item], backward: Callable[[Sequence[Item]], None], parameters: Sequence[nn.Parameter]
    ) -> None:
        """Call ``backward`` with pieces of ``items``, which adds to the gradients of ``parameters``.

        What does not fit is tried again at half the size; the result is the same. Raises MachineError when one item
        does not fit.
        """
        start = 0
        while start < len(items):
            before = [None if p.grad is None else p.grad.clone() for p in parameters]
            try:
                backward(items[start : start + self.size])
                start += self.size
            except torch.OutOfMemoryError as error:
                # half a backward pass may have left something behind
                for parameter, gradient in zip(parameters, before, strict=True):
                    parameter.grad = gradient
                if self.size == 1:
                    raise MachineError(
                        "one picture at a time does not fit into the GPU's memory: use a preset for a smaller card, or "
                        "--quantize nf4"
                    ) from error
                self.size = -(-self.size // 2)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
