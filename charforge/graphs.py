"""CUDA graphs: a card is told once which kernels a step is, and then to run them all.

A step of decoding or drawing is hundreds of small kernels, and to start them one by one takes a card longer than to run
them: on an H200 a token of the 7B base took 34 ms, and reading the weights for it would take 3 (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Graphed:
    """One kind of work on tensors of the same shapes, recorded at its second call and run again at every later one.

    At the first call it runs as it is, so that libraries set up what they need. The work must not read the device nor
    take anything from the host, and what it keeps it must keep in the same memory. On another device than a CUDA card,
    or with ``record`` off, it always runs as it is.

    The work is given with each call, not kept: its owner keeps this, and the two would keep each other, with all the
    owner's memory, until Python looks for such circles.
    """

    def __init__(self, device: torch.device, record: bool) -> None:
        self._device = device
        self._record = record and device.type == "cuda"
        self._warm = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._output = torch.empty(0)

    def __call__(self, work: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """What ``work`` returns for ``inputs``: memory of the caller's own.

        Raises ValueError where the shapes are others than those that were recorded.
        """
        if not self._record or not self._warm:
            out = work(*inputs)
            self._warm = True
            return out
        if self._graph is None:
            self._begin(work, inputs)
        assert self._graph is not None
        for kept, given in zip(self._inputs, inputs, strict=True):
            if kept.shape != given.shape:
                raise ValueError(f"recorded for {tuple(kept.shape)}, called with {tuple(given.shape)}")
            kept.copy_(given)
        with torch.cuda.device(self._device):
            self._graph.replay()
        return self._output.clone()

    def _begin(self, work: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
        kept = tuple(given.to(self._device).clone() for given in inputs)
        graph = torch.cuda.CUDAGraph()
        # a stream of this very card; other threads of the process may use theirs meanwhile
        with (
            torch.cuda.device(self._device),
            torch.cuda.graph(graph, stream=torch.cuda.Stream(self._device), capture_error_mode="thread_local"),
        ):
            output = work(*kept)
        self._graph, self._inputs, self._output = graph, kept, output
