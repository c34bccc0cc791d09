"""CUDA graphs without a card: what is recorded are operations on memory, and they are run again on that memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from charforge.bases.drawing import draw_prompts
from charforge.chat.replies import sample_replies
from charforge.families.bagel.decode import TextDecoder
from charforge.families.bagel.denoise import Denoiser
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
    def record(graph: Recorded, stream: object, capture_error_mode: str) -> Iterator[None]:
        GRAPHS.append(graph)
        with Recording(graph) as mode:
            yield
        for tensor, value in reversed(mode.before):
            tensor.copy_(value)

    begin = Graphed.__init__

    def always(self: Graphed, device: torch.device, record: bool) -> None:
        begin(self, device, record)
        self._record = record

    GRAPHS.clear()
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorded)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
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


def test_without_a_card_nothing_is_recorded() -> None:
    calls = []
    graph = Graphed(torch.device("cpu"), True)
    work = lambda x: calls.append(1) or x + 1  # noqa: E731
    assert [graph(work, torch.tensor(float(number))).item() for number in range(4)] == [1, 2, 3, 4]
    assert len(calls) == 4


def test_a_failure_while_recording_leaves_it_to_be_tried_again(recording: None) -> None:
    graph, fails = Graphed(torch.device("cpu"), True), [False, True, False, False]

    def work(x: torch.Tensor) -> torch.Tensor:
        if fails.pop(0):
            raise RuntimeError("out of memory")
        return x + 1

    assert graph(work, torch.zeros(2)).tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="out of memory"):
        graph(work, torch.zeros(2))
    assert graph(work, torch.ones(2)).tolist() == [2, 2]
    with pytest.raises(ValueError, match="recorded for"):
        graph(work, torch.ones(1))


@pytest.mark.parametrize("graphs", [False, True])
def test_what_a_decoder_and_a_denoiser_hold_goes_with_them(
    recording: None, graphs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # keys and values of a conversation: none may wait for Python to look for circles
    alive: list[weakref.ref[object]] = []
    for kind in (TextDecoder, Denoiser):
        begin = kind.__init__

        def noted(self: object, *given: object, begin: Any = begin, **named: object) -> None:
            begin(self, *given, **named)
            alive.append(weakref.ref(self))

        monkeypatch.setattr(kind, "__init__", noted)
    model = tiny_model()
    model.use_cuda_graphs(graphs)
    gc.collect()
    gc.disable()
    try:
        sample_replies(model, [[TextSplit((5, 6, 7, 8))]], ChatSettings(temperature=1.0, max_tokens=5), 3)
        draw_prompts(model, ["Pip in a forest"], [1])
        GRAPHS.clear()
        assert len(alive) >= 2 and not [one for one in alive if one() is not None]
    finally:
        gc.enable()
