"""Ctrl-C and SIGTERM: finish the step or give it up, save, leave; a second signal leaves at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import tiny_data, tiny_model, tiny_settings

from charforge.adapter.lora import adapter_state, add_adapter, lora_config
from charforge.errors import Interrupted
from charforge.train.interrupt import Interruption
from charforge.train.sft import Hooks, train_sft


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_for_the_state_to_be_whole_and_saves_it(number: signal.Signals):
    before, saved = signal.getsignal(number), []
    with (
        Interruption(go_on="Go on so.") as stop,
        pytest.raises(Interrupted, match=r"stopped and saved\. Go on so\."),
        stop.saving(lambda: saved.append("state")),
    ):
        stop.changing()
        signal.raise_signal(number)
        assert saved == []
        stop.settled()
    assert saved == ["state"]
    assert signal.getsignal(number) is before


def test_where_nothing_can_be_saved_the_first_signal_stops():
    with Interruption() as stop, pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")
    assert stop is not None


def test_a_signal_after_the_last_step_is_not_forgotten():
    with Interruption() as stop, pytest.raises(Interrupted), stop.saving(lambda: None):
        signal.raise_signal(signal.SIGTERM)


def test_a_loop_without_a_handler_is_never_stopped():
    stop = Interruption()
    with stop.saving(lambda: pytest.fail("nobody asked")):
        for _ in range(2):
            stop.changing()
            stop.changing()
            stop.settled()
            stop.settled()


CHILD = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
from tiny import tiny_data, tiny_model, tiny_settings
from charforge.adapter.lora import add_adapter, lora_config
from charforge.errors import Interrupted
from charforge.train import interrupt, sft

torch.set_num_threads(1)
interrupt.PATIENCE = {patience}
steps, folder = {steps}, Path({folder!r})
whole = sft.train_step

def slow_step(*arguments):
    if arguments[6] == 3:
        (folder / "in_step_4").touch()
        # one long call, as a backward pass is, and in it a change that must never be saved
        deadline = time.monotonic() + steps
        while time.monotonic() < deadline:
            time.sleep(0.05)
    return whole(*arguments)

sft.train_step = slow_step
model = tiny_model()
parameters = add_adapter(model.network, lora_config(model.shapes, rank=4, alpha=8), seed=0)
hooks = sft.Hooks(lambda log: None, lambda result, best: None, lambda step: None)
settings = tiny_settings(checkpoint_every=100)
try:
    with interrupt.Interruption(lambda line: print(line, file=sys.stderr), "Run it again.") as stop:
        sft.train_sft(model, parameters, tiny_data(), settings, 7, folder, hooks, stop=stop)
except Interrupted as interrupted:
    print(interrupted, file=sys.stderr)
    sys.exit(interrupted.exit_code)
"""


def interrupted_in_step_4(folder: Path, patience: float, seconds: float, signals: int) -> tuple[int, str]:
    """Exit code and what was said."""
    script = CHILD.format(tests=str(Path(__file__).parent), patience=patience, steps=seconds, folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    deadline = time.monotonic() + 300
    while not (folder / "in_step_4").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    told = process.communicate(timeout=300)[1]
    return process.returncode, told


def finished(folder: Path) -> tuple[dict[str, torch.Tensor], list[int]]:
    """The adapter of the run in ``folder``, carried on to its end, and the steps that this took."""
    model = tiny_model()
    parameters, steps = add_adapter(model.network, lora_config(model.shapes, rank=4, alpha=8), seed=0), []
    hooks = Hooks(lambda log: steps.append(log.step), lambda result, best: None, lambda step: None)
    train_sft(model, parameters, tiny_data(), tiny_settings(checkpoint_every=100), 7, folder, hooks)
    return adapter_state(model.network), steps


@pytest.mark.parametrize(
    ("patience", "seconds", "words", "next_step"),
    [
        (100.0, 1.0, "stopped and saved. Run it again.", 5),
        (0.3, 10_000.0, "the step that was under way is computed again. Run it again.", 4),
    ],
)
def test_a_step_is_finished_or_given_up_and_the_run_ends_in_the_same_bits(
    tmp_path: Path, patience: float, seconds: float, words: str, next_step: int
):
    (tmp_path / "cut").mkdir()
    code, told = interrupted_in_step_4(tmp_path / "cut", patience, seconds, signals=1)
    assert (code, words in told) == (130, True), told
    whole, _ = finished(tmp_path / "whole")
    continued, steps = finished(tmp_path / "cut")
    assert steps[0] == next_step
    assert all(torch.equal(whole[name], continued[name]) for name in whole)


def test_a_second_signal_leaves_at_once(tmp_path: Path):
    code, _ = interrupted_in_step_4(tmp_path, 10_000.0, 10_000.0, signals=2)
    assert code == -signal.SIGTERM
