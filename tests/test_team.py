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

import accelerate.utils  # noqa: F401 - here, so that each process has it from the beginning
import pytest
import torch
from command import charforge
from folders import make_folder
from kills import SETTINGS
from layout import write_checkpoint
from rollouts import lively, prompts_of
from safetensors.torch import load_file
from tiny import tiny_data, tiny_model, tiny_settings
from tiny_base import grpo_settings

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases import base
from charforge.errors import InputError, MachineError
from charforge.families.bagel.unified import UnifiedBagel
from charforge.run import job
from charforge.run.helper import NOTHING_BESIDE
from charforge.run.metrics import of_kind, read_metrics
from charforge.train.checkpoints import load_checkpoint
from charforge.train.forward_process import forward_process_gradient
from charforge.train.losses import Weights, unified_gradient
from charforge.train.matching import matching_gradient
from charforge.train.noised import noised_again
from charforge.train.policy_gradient import UpdateStatistics, joined_statistics, policy_gradient
from charforge.train.rollout import Rollout, draw_groups, joined_rollouts, learned_rows, roll_out
from charforge.train.samples import step_batch
from charforge.train.sft import adamw, train_sft
from charforge.train.team import ALONE, Team, TeamBroken, find_team

FRESH = multiprocessing.get_context("forkserver")
"""Copies of a process that has imported everything and computed nothing: torch refuses gradients in copies of one that
has."""
FRESH.set_forkserver_preload(["test_team"])
CHANGES = {
    "sft.steps": 6, "sft.preview_every": 6, "sft.evaluate_every": 3, "sft.checkpoint_every": 1, "sft.dialogues": 3,
    "sft.pictures": 3, "sft.draws": 2, "grpo.prompts": 3, "grpo.iterations": 2, "grpo.preview_every": 9,
}  # fmt: skip
OPTIONS = [
    "--base", "./base", "--device", "cpu",
    *(part for key, value in (SETTINGS | CHANGES).items() for part in ("--set", f"{key}={value}")),
]  # fmt: skip
LIMIT = 600
"""Seconds after which a process counts as hanging, also on a machine with much else to do."""
TOLERANCE = 1e-3
"""Of an adapter after six steps in fp32, relative to its largest value. The parts of a gradient are added in another
order, which moves its last bits; AdamW divides by its size, so where it is nearly zero those bits decide the sign."""
TOLERANCE_SECOND = 1e-2
"""Of what two iterations of the second stage change, by its length: a reward is divided by its deviation in the group,
so that last bits of pictures count for more. Another picture, reward or gradient would change all of it."""


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
        one.join(LIMIT)
    codes = [one.exitcode for one in started]
    for one in started:
        one.kill()
    return codes


def told(place: Path, size: int = 2) -> str:
    return "\n".join((place / f"log-{rank}").read_text() for rank in range(size))


def wait_for(true: Callable[[], bool], place: Path) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, told(place)
        time.sleep(0.05)


def counted(run: Path, kind: str = "step") -> list[int]:
    return [line["step" if kind == "step" else "iteration"] for line in read_metrics(run) if line["kind"] == kind]


def difference(run: Path, other: Path, name: str = "last") -> float:
    """The largest difference between two adapters, relative to the largest value of all."""
    one, two = (load_file(folder / "checkpoints" / f"{name}.safetensors") for folder in (run, other))
    names = [key for key in one if key.startswith("parameter.")]
    assert names and one.keys() == two.keys()
    largest = max(float(one[key].abs().max()) for key in names)
    return max(float((one[key] - two[key]).abs().max()) for key in names) / largest


def difference_of_second(run: Path, other: Path) -> float:
    """How far the adapters of the second stage lie apart, relative to how far it has moved the adapter."""
    mine, others = (load_file(folder / "checkpoints" / "grpo" / "last.safetensors") for folder in (run, other))
    start = load_file(run / "checkpoints" / "best.safetensors")
    names = [key for key in mine if key.startswith("parameter.")]
    assert names and mine.keys() == others.keys()
    apart, moved = (sum(float((mine[key] - of[key]).square().sum()) for key in names) for of in (others, start))
    return (apart / moved) ** 0.5


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
    assert 0 < difference_of_second(place / "alone", place / "two") < TOLERANCE_SECOND
    assert counted(place / "two") == [1, 2, 3, 4, 5, 6] and counted(place / "two", "grpo") == [1, 2]
    one, two = (json.loads((place / run / "result.json").read_text()) for run in ("alone", "two"))
    for figure in ("held_out_perplexity_on", "scenes_identity_after"):
        assert one[figure] == pytest.approx(two[figure], rel=1e-3)
    one, two = (read_metrics(place / run) for run in ("alone", "two"))
    for mine, other in zip(of_kind(one, "grpo"), of_kind(two, "grpo"), strict=True):
        assert mine["parts"] == pytest.approx(other["parts"], rel=1e-2, abs=1e-4)
        assert mine["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-2)
    assert "2 processes share the samples of each step" in told(place)
    # the first process alone has spoken and written
    assert (place / "log-1").read_text() == "" and (place / "two" / "pip.charx").exists()


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_one_goes_on_where_two_stopped(place: Path):
    run = place / "killed"
    for enough in (lambda: len(counted(run)) >= 2, (run / "checkpoints" / "grpo" / "last.safetensors").exists):
        # in the first stage, then in the second
        started = start(place, 2, "--out", "killed")
        wait_for(enough, place)
        started[1].kill()
        codes = ended(started)
        assert codes == [3, -signal.SIGKILL], told(place)
        assert "another process of this job has ended" in told(place) and "any number of processes" in told(place)
        assert (run / "checkpoints" / "last.safetensors").exists()
    assert json.loads((run / "result.json").read_text())["stage"] == "sft"
    assert ended(start(place, 1, "--out", "killed")) == [0], told(place, 1)
    assert difference(place / "alone", run) < TOLERANCE
    assert difference_of_second(place / "alone", run) < TOLERANCE_SECOND


@pytest.mark.slow
def test_a_signal_to_one_of_them_stops_both_after_the_same_step(place: Path):
    run = place / "stopped"
    started = start(place, 2, "--out", "stopped")
    wait_for(lambda: len(counted(run, "grpo")) >= 1, place)
    os.kill(started[1].pid, signal.SIGTERM)
    assert ended(started) == [130, 130], told(place)
    assert "stopped and saved" in told(place)
    assert ended(start(place, 2, "--out", "stopped")) == [0, 0], told(place)
    assert difference_of_second(place / "alone", run) < TOLERANCE_SECOND


def test_what_several_processes_cannot_do_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="leave the option out"):
        find_team("cuda:0")
    for name in ("pip", "another"):
        make_folder(tmp_path / name)
    done = charforge("train", "pip", "another", "--out", "cast", cwd=tmp_path)
    assert done.returncode == 1 and "name one folder" in done.stderr
    monkeypatch.setattr(job, "find_team", lambda device: Team(0, 5))
    options = ["--device", "cpu", "--preset", "mini", "--set", "grpo.prompts=4", "--set", "grpo.updates=2"]
    done = charforge("train", "pip", *options, "--out", "five", cwd=tmp_path)
    assert done.returncode == 1 and "5 processes cannot share the 4 scenes of an iteration" in done.stderr
    assert not (tmp_path / "five").exists()


def test_checkpoints_that_differ_are_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Team, "everyone", lambda self, value: [(3, True), (2, True)])
    with pytest.raises(MachineError, match="storage that all of them see"):
        Team(0, 2).check_alike((3, True))


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


GROUPS = range(1, 3)
"""Of three, those that the update learns from."""


def drawn(algorithm: str, *teams: Team) -> tuple[Rollout, list[float]]:
    """Three groups as the processes of ``teams`` draw them, joined, and what the generator of each says afterwards."""
    settings, model = grpo_settings(prompts=3, algorithm=algorithm, tail=1).grpo, tiny_model()
    lively(model)
    prompts, canvas, parts, after = prompts_of(model, 3), model.canvas(), [], []
    for team in teams:
        generator = torch.Generator().manual_seed(4)
        if algorithm == "awm":
            parts.append(draw_groups(model, prompts, canvas, settings, generator, 8, 1.0, team.share(3)))
        else:
            parts.append(roll_out(model, prompts, canvas, settings, generator, 8, team.share(3)))
        after.append(float(torch.rand(1, generator=generator)))
    return joined_rollouts(parts).to("cpu"), after


def gradient(algorithm: str, rollout: Rollout, *teams: Team) -> tuple[dict[str, torch.Tensor], UpdateStatistics]:
    """What the processes of ``teams`` learn from the same rollout, added up, and the statistics of the update."""
    settings, model = grpo_settings(prompts=3, algorithm=algorithm).grpo, tiny_model()
    parameters = lively(model)
    old = {name: parameter.detach() * 0.9 for name, parameter in parameters.items()}
    prompts, gains, told = prompts_of(model, 3), torch.linspace(-1, 1, 12), []
    for team in teams:
        if algorithm == "grpo":
            told.append(policy_gradient(model, prompts, rollout, gains, GROUPS, settings, 8, team=team))
            continue
        rows, generator = learned_rows(gains, GROUPS, settings), torch.Generator().manual_seed(5)
        owners = [row // 4 for row in rows]
        noised = noised_again(rollout.latents, rows, prompts, owners, model.canvas(), settings, generator)
        if algorithm == "awm":
            matching_gradient(model, noised, gains, 8, team)
        else:
            forward_process_gradient(model, noised, gains, settings, parameters, old, 8, team)
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    return gradients, joined_statistics(told) if told else UpdateStatistics()


@pytest.mark.parametrize("algorithm", ["grpo", "nft", "awm"])
def test_groups_that_are_shared_out_are_the_same_pictures_and_give_the_same_gradient(algorithm: str):
    three = [Team(rank, 3) for rank in range(3)]
    whole, (state,) = drawn(algorithm, ALONE)
    parts, states = drawn(algorithm, *three)
    torch.testing.assert_close(parts.latents, whole.latents, rtol=1e-4, atol=1e-5)
    assert states == [state] * 3 and parts.starts == whole.starts and parts.forwards == whole.forwards
    one, told = gradient(algorithm, whole, ALONE)
    # from what was drawn in parts: its steps stand in another order
    summed, told_in_parts = gradient(algorithm, parts, *three)
    assert one.keys() == summed.keys() and one
    largest = max(float(value.abs().max()) for value in one.values())
    for name, value in one.items():
        torch.testing.assert_close(summed[name], value, rtol=1e-3, atol=1e-4 * largest)
    assert len(told_in_parts.gaps) == len(told.gaps) == (16 if algorithm == "grpo" else 0)
    # a process whose share is empty adds nothing
    nobody = gradient(algorithm, whole, Team(0, 1000))[0]
    assert all(not value.any() for value in nobody.values())


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
