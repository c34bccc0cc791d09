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
