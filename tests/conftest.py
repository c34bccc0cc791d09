"""Shared settings of the tests: one thread (tiny models are slower on two) and no network."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from browser import chromium

from charforge.progress import terminal, verbosity

torch.set_num_threads(1)
LONGEST = (
    "test_kills.py", "test_estimate.py", "test_team.py", "test_train.py", "test_going_on.py", "test_gpu_stages.py",
    "test_train_mini.py", "test_interrupt.py", "test_cast.py", "test_bench.py", "test_run_pairs.py",
)  # fmt: skip
"""Files of few and long tests. They begin first, so that no worker waits at the end for another one's."""


def pytest_configure(config: pytest.Config) -> None:
    """Have pytest-xdist, where it is installed, leave the order: it would take files of many tests first."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they were."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(autouse=True)
def new_command() -> None:
    """One command has one console, one --quiet and its --threads: they end with the test."""
    terminal.cache_clear()
    verbosity.set("normal")
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; without one the test is skipped."""
    with chromium() as one:
        yield one
