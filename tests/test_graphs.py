"""CUDA graphs without a card: what is recorded are operations on memory, and they are run again on that memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from charforge.bases.drawing import draw_prompts
from charforge.chat.replies import sample_replies
from charforge.cli.options import record_steps
from charforge.errors import MachineError
from charforge.families.bagel.splits import TextSplit
from charforge.graphs import Graphed
from charforge.settings import ChatSettings


class Recorded:
    """Stands for ``torch.cuda.CUDAGraph``: the operations of a block, of which none has happened when it ends."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, out in self.steps:
            new = func(*args, **kwargs)
            if not func._schema.is_mutable and not func.is_view:
                for before, now in zip(tree_leaves(out), tree_leaves(new), strict=True):
                    before.copy_(now)


class Recording(TorchDispatchMode):
    def __init__(self, graph: Recorded) -> None:
        super().__init__()
        self.graph, self.before = graph, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.is_mutable:
            self.before.append((args[0], args[0].clone()))
        out = func(*args, **(kwargs or {}))
        self.graph.steps.append((func, args, kwargs or {}, out))
        return out


GRAPHS: list[Recorded] = []


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of decoding and drawing is recorded, on the CPU."""

    @contextmanager
    def record(graph: Recorded, capture_error_mode: str) -> Iterator[None]:
        GRAPHS.append(graph)
        with Recording(graph) as mode:
            yield
        for tensor, value in reversed(mode.before):
            tensor.copy_(value)

    begin = Graphed.__init__

    def always(self: Graphed, work: Any, device: torch.device, record: bool) -> None:
        begin(self, work, device, record)
        self._record = record

    GRAPHS.clear()
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorded)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(Graphed, "__init__", always)


def test_a_reply_from_recorded_steps_is_the_same(recording: None) -> None:
    said = []
    for graphs in (False, True):
        model = tiny_model()
        model.use_cuda_graphs(graphs)
        # two looks through the cache: a second graph takes over
        settings = ChatSettings(temperature=1.0, max_tokens=150)
        said.append(sample_replies(model, [[TextSplit((5, 6, 7, 8))], [TextSplit((9, 9))]], settings, 3))
    assert said[0] == said[1]
    assert len(GRAPHS) >= 2 and sum(graph.replays for graph in GRAPHS) > 80


@pytest.mark.parametrize("count", [1, 2])
def test_a_drawing_from_recorded_steps_is_the_same(recording: None, count: int) -> None:
    drawn = []
    for graphs in (False, True):
        model = tiny_model()
        model.use_cuda_graphs(graphs)
        drawn.append(draw_prompts(model, ["Pip in a forest", "Pip on a beach"][:count], [1, 2][:count]))
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(*drawn, strict=True))
    assert GRAPHS and all(graph.replays for graph in GRAPHS)


def test_asking_for_it_without_a_card_is_refused() -> None:
    with pytest.raises(MachineError, match="leave it out"):
        record_steps(tiny_model(), True)
    record_steps(tiny_model(), False)


def test_without_a_card_nothing_is_recorded() -> None:
    calls = []
    work = Graphed(lambda x: calls.append(1) or x + 1, torch.device("cpu"), True)
    assert [work(torch.tensor(float(number))).item() for number in range(4)] == [1, 2, 3, 4]
    assert len(calls) == 4
