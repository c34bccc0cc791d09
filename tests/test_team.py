"""Several processes train one adapter: the one that a single process trains, whatever becomes of one of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from command import charforge
from folders import make_folder
from kills import SETTINGS
from layout import write_checkpoint
from safetensors.torch import load_file
from tiny import tiny_data, tiny_model, tiny_settings

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases import base
from charforge.errors import InputError
from charforge.families.bagel.unified import UnifiedBagel
from charforge.run.helper import NOTHING_BESIDE
from charforge.train.checkpoints import load_checkpoint
from charforge.train.losses import Weights, unified_gradient
from charforge.train.samples import step_batch
from charforge.train.sft import adamw, train_sft
from charforge.train.team import ALONE, Team, TeamBroken, find_team

FRESH = multiprocessing.get_context("forkserver")
"""Copies of a process that has imported everything and computed nothing: torch refuses gradients in copies of one that
has."""
FRESH.set_forkserver_preload(["test_team"])
CHANGES = {
    "sft.steps": 6, "sft.preview_every": 3, "sft.evaluate_every": 3, "sft.checkpoint_every": 1, "sft.dialogues": 3,
    "sft.pictures": 3, "sft.draws": 2, "grpo.prompts": 4, "grpo.iterations": 2, "grpo.checkpoint_every": 1,
    "grpo.anchor_pictures": 2, "grpo.anchor": 0.2,
}  # fmt: skip
OPTIONS = [
    "--base", "./base", "--device", "cpu",
    *(part for key, value in (SETTINGS | CHANGES).items() for part in ("--set", f"{key}={value}")),
]  # fmt: skip
TOLERANCE = 1e-3
"""Of an adapter after six steps in fp32, relative to its largest value. The parts of a gradient are added in another
order, which moves its last bits; AdamW divides by its size, so where it is nearly zero those bits decide the sign."""


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def process(place: Path, rank: int, size: int, port: int, arguments: Sequence[str]) -> None:
    """``charforge train ARGUMENTS`` as a launcher starts it: number ``rank`` of ``size``."""
    os.chdir(place)
    os.environ["CHARFORGE_CACHE"] = str(place / "cache")
    # in bf16 a product depends on the rows beside it in the third digit, with one process as with two
    base.compute_dtype = lambda device: torch.float32
    if size > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
    sys.stdout = sys.stderr = Path(f"log-{rank}").open("w", buffering=1)  # noqa: SIM115
    sys.argv = ["charforge", "train", "pip", *arguments]
    from charforge.cli.main import main

    main()


def start(place: Path, size: int, *arguments: str) -> list[multiprocessing.process.BaseProcess]:
    port = free_port()
    started = [
        FRESH.Process(target=process, args=(place, rank, size, port, [*OPTIONS, *arguments]), daemon=True)
        for rank in range(size)
    ]
    for one in started:
        one.start()
    return started


def ended(started: list[multiprocessing.process.BaseProcess]) -> list[int | None]:
    """The exit codes, when all have ended."""
    for one in started:
        one.join(120)
    codes = [one.exitcode for one in started]
    for one in started:
        one.kill()
    return codes


def told(place: Path, size: int = 2) -> str:
    return "\n".join((place / f"log-{rank}").read_text() for rank in range(size))


def wait_for(true: Callable[[], bool], place: Path) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, told(place)
        time.sleep(0.05)


def steps(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line["step"] for line in lines if line["kind"] == "step"]


def difference(run: Path, other: Path, name: str = "last") -> float:
    """The largest difference between two adapters, relative to the largest value of all."""
    one, two = (load_file(folder / "checkpoints" / f"{name}.safetensors") for folder in (run, other))
    names = [key for key in one if key.startswith("parameter.")]
    assert names and one.keys() == two.keys()
    largest = max(float(one[key].abs().max()) for key in names)
    return max(float((one[key] - two[key]).abs().max()) for key in names) / largest


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a character, and the run of one process."""
    folder = tmp_path_factory.mktemp("team")
    write_checkpoint(folder / "base")
    make_folder(folder / "pip")
    assert ended(start(folder, 1, "--out", "alone")) == [0], told(folder, 1)
    return folder


def test_two_processes_train_the_adapter_of_one(place: Path):
    assert ended(start(place, 2, "--out", "two")) == [0, 0], told(place)
    assert 0 < difference(place / "alone", place / "two") < TOLERANCE
    assert steps(place / "two") == [1, 2, 3, 4, 5, 6]
    one, two = (json.loads((place / run / "result.json").read_text()) for run in ("alone", "two"))
    assert one["held_out_perplexity_on"] == pytest.approx(two["held_out_perplexity_on"], rel=1e-3)
    assert "2 processes share the samples of each step" in told(place)
    # the first process alone has spoken and written
    assert (place / "log-1").read_text() == "" and (place / "two" / "pip.charx").exists()


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_one_goes_on_where_two_stopped(place: Path):
    run = place / "killed"
    started = start(place, 2, "--out", "killed")
    wait_for(lambda: len(steps(run)) >= 2, place)
    started[1].kill()
    codes = ended(started)
    assert codes == [3, -signal.SIGKILL], told(place)
    assert "another process of this job has ended" in told(place) and "with any number of processes" in told(place)
    assert (run / "checkpoints" / "last.safetensors").exists() and not (run / "result.json").exists()
    assert ended(start(place, 1, "--out", "killed")) == [0], told(place, 1)
    assert difference(place / "alone", run) < TOLERANCE


@pytest.mark.slow
def test_a_signal_to_one_of_them_stops_both_after_the_same_step(place: Path):
    run = place / "stopped"
    started = start(place, 2, "--out", "stopped")
    wait_for(lambda: len(steps(run)) >= 2, place)
    os.kill(started[1].pid, signal.SIGTERM)
    assert ended(started) == [130, 130], told(place)
    assert "stopped and saved" in told(place)
    assert ended(start(place, 2, "--out", "stopped")) == [0, 0], told(place)
    assert difference(place / "alone", run) < TOLERANCE


def test_what_several_processes_cannot_do_is_said_in_a_line(place: Path, monkeypatch: pytest.MonkeyPatch):
    codes = ended(start(place, 2, "--out", "both", "--stage", "all"))
    assert codes == [1, 1] and "several processes share the first stage alone: add --stage sft" in told(place)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="leave the option out"):
        find_team("cuda:0")
    done = charforge("train", "pip", "another", "--out", "cast", cwd=place)
    assert done.returncode == 1 and "name one folder" in done.stderr


@pytest.mark.parametrize("count", [0, 1, 5, 16])
def test_every_sample_is_one_processes(count: int):
    assert [index for rank in range(3) for index in Team(rank, 3).share(count)] == list(range(count))
    assert list(ALONE.share(count)) == list(range(count))


def adapted() -> tuple[UnifiedBagel, dict[str, torch.nn.Parameter]]:
    model = tiny_model()
    return model, add_adapter(model.network, lora_config(model.shapes, 4, 8), 0)


def test_the_gradients_of_all_shares_add_up_to_that_of_the_whole():
    def gradients(*teams: Team) -> dict[str, torch.Tensor]:
        model, parameters = adapted()
        texts, pictures, noise = step_batch(model, tiny_data(), tiny_settings(), 0, 0)
        for team in teams:
            # gradients of one after the other stay, as a sum
            unified_gradient(model, texts, pictures, noise, Weights(1.0, 1.0), 2, team=team)
        return {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}

    whole, parts = gradients(ALONE), gradients(*(Team(rank, 3) for rank in range(3)))
    assert whole.keys() == parts.keys() and whole
    for name, gradient in whole.items():
        assert torch.allclose(gradient, parts[name], rtol=1e-4, atol=1e-6), name


def test_what_was_learned_is_saved_when_another_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model, parameters = adapted()
    done: list[int] = []

    def add_up(self: Team, parameters: object, values: list[torch.Tensor]) -> list[torch.Tensor]:
        if len(done) == 2:
            raise TeamBroken("another process of this job has ended")
        done.append(1)
        return values

    monkeypatch.setattr(Team, "add_up", add_up)
    settings = tiny_settings(steps=6, checkpoint_every=100)
    with pytest.raises(TeamBroken):
        train_sft(model, parameters, tiny_data(), settings, 0, tmp_path, NOTHING_BESIDE, team=Team(0, 2))
    optimizer = adamw(model, parameters, settings)
    assert load_checkpoint(tmp_path / "last.safetensors", parameters, optimizer)[0] == 2


def test_alone_nothing_is_added_and_nothing_asked():
    parameter = torch.nn.Parameter(torch.ones(2))
    value = torch.tensor(3.0)
    assert ALONE.add_up([parameter], [value])[0] is value and parameter.grad is None
    assert ALONE.told("x") == "x"
