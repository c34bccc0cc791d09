"""CUDA graphs: a card is told once which kernels a step is, and then to run them all.

A step of decoding or drawing is hundreds of small kernels, and to start them one by one takes a card longer than to run
them: on an H200 a token of the 7B base took 34 ms of which the card worked a tenth (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Graphed:
    """``work`` on tensors of the same shapes each time, recorded at its second call and run again at every later one.

    At the first call it runs as it is, so that libraries set up what they need. ``work`` must not read the device nor
    take anything from the host, and what it keeps it must keep in the same memory. On another device than a CUDA card,
    or with ``record`` off, it always runs as it is.
    """

    def __init__(self, work: Callable[..., Tensor], device: torch.device, record: bool) -> None:
        self._work, self._device = work, device
        self._record = record and device.type == "cuda"
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._output: Tensor | None = None
        self._calls = 0

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What ``work`` returns for ``inputs``: memory of the caller's own."""
        self._calls += 1
        if not self._record or self._calls == 1:
            return self._work(*inputs)
        if self._graph is None:
            self._begin(inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        assert self._graph is not None and self._output is not None
        self._graph.replay()
        return self._output.clone()

    def _begin(self, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = tuple(given.to(self._device).clone() for given in inputs)
        self._graph = torch.cuda.CUDAGraph()
        # other threads may use the card meanwhile: a server draws while it speaks
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = self._work(*self._inputs)
