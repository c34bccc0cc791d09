"""How much of the machine charforge takes, and what it may take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from charforge.machine import cgroup_cores, set_threads, threads_for, usable_cores, wait_briefly


@pytest.mark.parametrize(
    ("physical", "logical", "allowed", "limit", "threads"),
    [
        (2, 2, 2, None, 2),
        (8, 16, 16, None, 8),  # two processors of one core are no two cores
        (8, 16, 4, None, 2),  # this process may use four of them
        (8, 8, 8, 2.5, 2),  # a container
        (8, 8, 8, 0.5, 1),  # never none
    ],
)
def test_as_many_threads_as_physical_cores_that_may_be_used(
    physical: int, logical: int, allowed: int, limit: float | None, threads: int
):
    assert threads_for(physical, logical, allowed, limit) == threads


def test_this_machine_has_a_core_at_least():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
    ],
)
def test_the_limit_of_a_container(tmp_path: Path, files: dict[str, str], cores: float | None):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    assert cgroup_cores(tmp_path) == cores


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_set_about_waiting_stays(name: str):
    environment = {name: "7"}
    wait_briefly(environment)
    assert environment == {name: "7"}


def test_threads_wait_briefly_otherwise():
    environment: dict[str, str] = {}
    wait_briefly(environment)
    assert environment == {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_the_option_goes_before_the_environment_and_that_before_the_cores(name: str):
    environment = {name: "3"}
    set_threads(None, environment)
    assert environment == {name: "3"}
    set_threads(5, environment)
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "5"
    nothing: dict[str, str] = {}
    set_threads(None, nothing)
    assert int(nothing["OMP_NUM_THREADS"]) >= 1


def test_torch_computes_as_the_command_line_says():
    """It is read when torch is loaded: nothing of the command line may load it before."""
    code = (
        "import sys\n"
        "from charforge.machine import set_threads, wait_briefly\n"
        "from charforge.cli import main\n"
        "assert 'torch' not in sys.modules\n"
        "wait_briefly(); set_threads(1)\n"
        "import torch; print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "1"
