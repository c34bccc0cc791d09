"""Who works in a folder: one of many processes, and another one when that one is dead or silent."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import filelock._soft
import pytest

from charforge.errors import MachineError
from charforge.run import lease
from charforge.run.folder import open_run
from charforge.settings import Settings

FORK = multiprocessing.get_context("fork")


def work(run: Path, begin: object, outcome: object, end: object) -> None:
    """Open ``run`` when everybody does, say how that went, hold it until the end."""
    begin.wait()  # type: ignore[attr-defined]
    try:
        with open_run(run, Settings(), {}):
            outcome.put((os.getpid(), "works"))  # type: ignore[attr-defined]
            end.wait()  # type: ignore[attr-defined]
    except lease.Held as held:
        outcome.put((os.getpid(), str(held)))  # type: ignore[attr-defined]


def started_at_once(run: Path, number: int) -> dict[int, str]:
    """What each of ``number`` processes says that begin the same run at the same moment."""
    begin, end, outcome = FORK.Barrier(number), FORK.Event(), FORK.Queue()
    processes = [FORK.Process(target=work, args=(run, begin, outcome, end), daemon=True) for _ in range(number)]
    for process in processes:
        process.start()
    told = dict(outcome.get(timeout=60) for _ in processes)
    end.set()
    for process in processes:
        process.join(30)
    assert not lease.is_held(run / lease.NAME)
    return told


@pytest.mark.parametrize("number", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_of_processes_that_start_on_one_run_one_works_and_the_others_say_who_does(tmp_path: Path, number: int):
    told = started_at_once(tmp_path / "run", number)
    (worker,) = [process for process, said in told.items() if said == "works"]
    others = [said for process, said in told.items() if process != worker]
    assert len(others) == number - 1
    assert all(re.match(rf"process {worker} on \S+ .*works in .*run: wait until it ends", said) for said in others)
    assert json.loads((tmp_path / "run" / "identity.json").read_text()) == {}


def hold_forever(file: Path, held: object) -> None:
    with lease.holding(file):
        held.set()  # type: ignore[attr-defined]
        time.sleep(600)


@pytest.fixture
def holder(tmp_path: Path):
    """A process that holds tmp_path/lease."""
    file, held = tmp_path / lease.NAME, FORK.Event()
    process = FORK.Process(target=hold_forever, args=(file, held), daemon=True)
    process.start()
    assert held.wait(30)
    yield process
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_from_a_dead_process_of_this_machine_it_is_taken_at_once(tmp_path: Path, holder):
    file = tmp_path / lease.NAME
    assert lease.is_held(file)
    with pytest.raises(lease.Held, match=rf"process {holder.pid} on .* \(since "), lease.holding(file):
        pytest.fail("two at a time")
    holder.kill()
    holder.join()
    assert not lease.is_held(file)
    with lease.holding(file):
        assert lease.is_held(file) and f"process {os.getpid()}" in lease.owner(file)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds instead of minutes."""
    monkeypatch.setattr(lease, "SECONDS", 1.5)
    monkeypatch.setattr(lease, "HEARTBEAT", 0.3)


def wait_until(true: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.mark.parametrize("exchanges", [True, False], ids=["local", "a share that cannot exchange names"])
def test_a_silent_one_is_taken_over_with_notice_and_learns_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, exchanges: bool
):
    if not exchanges:
        # what NFS and SMB answer
        monkeypatch.setattr(filelock._soft, "exchange_names", lambda *_: False)
    file, told = tmp_path / lease.NAME, []
    with lease.holding(file) as mine:
        # its heartbeat does not reach the storage any more; the process is alive
        monkeypatch.setattr(filelock._lease, "touch", lambda *_, **__: None)
        time.sleep(3 * lease.HEARTBEAT)
        process = FORK.Process(target=take_over, args=(file, tmp_path / "told"), daemon=True)
        process.start()
        wait_until(lambda: mine.lost is not None)
        with pytest.raises(MachineError, match="another process has taken over"):
            mine.check()
        process.join(30)
        told = (tmp_path / "told").read_text().splitlines()
    assert len(told) == 2 and "has not been heard of" in told[0] and told[1] == f"held by process {process.pid}"
    assert not (tmp_path / "lease.expired").exists()


def take_over(file: Path, told: Path) -> None:
    lines: list[str] = []
    with lease.holding(file, tell=lines.append):
        told.write_text("\n".join([*lines, f"held by process {os.getpid()}"]))
        time.sleep(1.5)


def test_one_that_is_heard_of_again_keeps_it(tmp_path: Path, quick: None, holder):
    file = tmp_path / lease.NAME
    os.kill(holder.pid, signal.SIGSTOP)
    time.sleep(3 * lease.HEARTBEAT)

    def wake(line: str) -> None:
        os.kill(holder.pid, signal.SIGCONT)

    with pytest.raises(lease.Held, match="works in"), lease.holding(file, tell=wake):
        pytest.fail("two at a time")


def test_a_run_that_was_taken_over_is_left_alone(tmp_path: Path):
    run = tmp_path / "run"
    with pytest.raises(MachineError), open_run(run, Settings(), {}) as hold:
        (run / "made").write_text("by the other one")
        hold.lost = "another process has taken over"
        hold.check()
    assert (run / "made").exists()
