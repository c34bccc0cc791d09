"""Where these tests run: on a CUDA card (marked ``gpu``, skipped where there is none), on the CPU, and on a card that
is none (tests/pretend.py). ``pytest tests/gpu -m gpu`` is for a machine with a card; without ``-m`` what needs no card
and is quick runs everywhere, ``-m "not gpu"`` runs all of that.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pretend import AVAILABLE, CARD, pretend_card

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
# what the CPU says by itself other tests ask: here it is the check of these tests, before a card is paid for
CPU = pytest.param("cpu", marks=pytest.mark.slow)


@pytest.fixture(params=[CUDA, CPU, CARD])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of the whole test. What is made inside on the pretend card computes in fp32 only."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA card that torch can reach")
    if request.param != CARD:
        yield request.param
        return
    if not AVAILABLE:
        pytest.skip("the pretend card needs torch 2.13")
    with pretend_card():
        yield CARD


@pytest.fixture(params=[CUDA, "cpu"])
def real_device(request: pytest.FixtureRequest) -> str:
    """The same without the pretend card: for bf16, int8 and nf4, which it cannot do."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA card that torch can reach")
    return request.param


@pytest.fixture(params=[CUDA])
def cuda(request: pytest.FixtureRequest) -> str:
    """A CUDA card: for what nothing else can show."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA card that torch can reach")
    return request.param
