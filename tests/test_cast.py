"""Several characters on one base: bad ones told of, good ones trained, each to the bits that it has alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command import charforge
from folders import drawing, make_folder
from kills import SETTINGS, contents
from layout import write_checkpoint
from safetensors import safe_open
from tiny import tiny_model

from charforge.adapter.lora import add_adapter, lora_config, remove_adapter
from charforge.bases import base as bases
from charforge.character.cast import characters_in
from charforge.cli.cast import read_priorities
from charforge.errors import InputError, Interrupted, MachineError
from charforge.run import job, shared
from charforge.run.cast import Failure, exit_code, train_cast
from charforge.run.job import TrainResult
from charforge.run.lease import holding
from charforge.run.queue import Member, Standing, members_of, note_standing, read_queue

CHANGES = {
    "sft.steps": 2,
    "sft.preview_every": 2,
    "grpo.iterations": 1,
    "grpo.prompts": 1,
    "grpo.updates": 1,
    "evaluation.share": 0,
}
OPTIONS = [
    "--base", "./base", *(part for key, value in (SETTINGS | CHANGES).items() for part in ("--set", f"{key}={value}")),
]  # fmt: skip


def make_nib(folder: Path) -> Path:
    """Another character than Pip: other pictures, other words."""
    make_folder(folder)
    for number, file in enumerate(sorted((folder / "images").glob("*.png"))):
        drawing(20 + number).save(file)
    for name in ("character.md", "facts.md", "dialogues.jsonl"):
        text = (folder / name).read_text("utf-8")
        (folder / name).write_text(text.replace("Pip", "Nib").replace("harbour", "hill"), "utf-8")
    return folder


def bits(file: Path) -> dict[str, object]:
    """Every tensor of a checkpoint as bytes, and its notes: the order of notes in the file is chance."""
    with safe_open(file, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name).numpy().tobytes() for name in opened.keys()}  # noqa: SIM118
        return tensors | opened.metadata()


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Two characters with one between them whose folder is broken, and the second of them alone."""
    place = tmp_path_factory.mktemp("cast")
    write_checkpoint(place / "base")
    make_folder(place / "all" / "1-pip")
    (place / "all" / "2-broken").mkdir()
    (place / "all" / "2-broken" / "character.md").write_text("nobody", "utf-8")
    make_nib(place / "all" / "3-nib")
    told = SimpleNamespace(place=place, loads=[])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARFORGE_CACHE", str(place / "cache"))
        patch.setattr(shared, "load_base", lambda *given: told.loads.append(given) or bases.load_base(*given))
        told.done = charforge("train", "all", *OPTIONS, "--out", "runs", "--json", cwd=place)
        told.loaded = len(told.loads)
        told.again = charforge("train", "all", *OPTIONS, "--out", "runs", cwd=place)
        told.alone = charforge("train", "all/3-nib", *OPTIONS, "--out", "alone", cwd=place)
        yield told


def test_the_others_go_on_and_the_exit_code_says_that_input_was_bad(cast):
    assert cast.done.returncode == 1, cast.done.stderr
    told = json.loads(cast.done.stdout)
    assert [row["state"] for row in told["characters"]] == ["finished", "failed", "finished"]
    assert told["failed"] == ["2-broken"]
    assert "charforge: failed: 2-broken" in cast.done.stderr
    queue = json.loads((cast.place / "runs" / "queue.json").read_text())
    assert queue["failed"] == ["2-broken"]
    assert [row["exit_code"] for row in queue["characters"]] == [0, 1, 0]
    assert "2-broken" in queue["characters"][1]["error"]
    for row in told["characters"][::2]:
        assert (cast.place / row["bundle"]).parent == cast.place / "runs" / row["name"]
        assert row["seconds"] > 0 and row["peak_memory_gib"] > 0 and row["scenes"] is not None


def test_the_base_is_loaded_once(cast):
    assert cast.loaded == 1


def test_the_second_characters_adapter_is_that_of_the_character_alone_to_the_bit(cast):
    assert cast.alone.returncode == 0, cast.alone.stderr
    runs = [cast.place / "runs" / "3-nib", cast.place / "alone"]
    for name in ("checkpoints/best.safetensors", "checkpoints/last.safetensors", "checkpoints/grpo/last.safetensors"):
        mine, alone = (bits(run / name) for run in runs)
        assert mine == alone, name
    assert contents(runs[0] / "nib.charx") == contents(runs[1] / "nib.charx")
    first = cast.place / "runs" / "1-pip"
    assert bits(first / "checkpoints/best.safetensors") != bits(runs[0] / "checkpoints/best.safetensors")


def test_the_same_command_again_passes_over_what_is_finished(cast):
    assert cast.again.returncode == 1
    for name in ("1-pip", "3-nib"):
        assert f"runs/{name} is finished: nothing left to do" in cast.again.stderr
    assert "2-broken" in cast.again.stderr and "minutes" in cast.again.stderr


def test_an_adapter_taken_off_leaves_the_very_modules_of_before():
    network = tiny_model().network
    before = dict(network.named_modules())
    config = lora_config(tiny_model().shapes, 4, 8)
    first = add_adapter(network, config, 3)
    values = {name: parameter.detach().clone() for name, parameter in first.items()}
    with torch.no_grad():
        for parameter in first.values():
            parameter.add_(1.0)
    remove_adapter(network)
    after = dict(network.named_modules())
    assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    again = add_adapter(network, config, 3)
    assert all(torch.equal(again[name], values[name]) for name in values) and again.keys() == values.keys()


# the queue, without training


def member(place: Path, name: str) -> Member:
    return Member(name, place / name, place / "out" / name)


def trained(one: Member) -> TrainResult:
    return TrainResult(one.run, one.run / "x.charx", {})


def test_a_signal_leaves_who_was_under_way_and_who_waits(tmp_path: Path):
    def train(one: Member, _: shared.SharedBase) -> TrainResult:
        if one.name == "b":
            raise Interrupted("stopped")
        return trained(one)

    members = [member(tmp_path, name) for name in "abc"]
    with pytest.raises(Interrupted):
        train_cast(members, tmp_path / "out", train, lambda error: Failure(str(error), 1), print)
    states = {name: one.state for name, one in read_queue(tmp_path / "out").items()}
    assert states == {"a": "finished", "b": "interrupted", "c": "waiting"}
    done = train_cast(members, tmp_path / "out", lambda one, _: trained(one), lambda e: Failure(str(e), 1), print)
    assert [one.state for one in done] == ["finished"] * 3 and exit_code(done) == 0


def test_the_highest_priority_comes_first_and_may_be_changed_while_others_train(tmp_path: Path):
    out, order = tmp_path / "out", []

    def train(one: Member, _: shared.SharedBase) -> TrainResult:
        order.append(one.name)
        if one.name == "c":
            # by hand, while c is under way
            told = json.loads((out / "queue.json").read_text())
            told["characters"][3]["priority"] = 7
            (out / "queue.json").write_text(json.dumps(told))
        if one.name == "a" and len(order) == 3:
            raise Interrupted("stopped")
        return trained(one)

    members = [member(tmp_path, name) for name in "abcde"]
    with pytest.raises(Interrupted):
        train_cast(members, out, train, lambda error: Failure(str(error), 1), print, {"c": 5, "e": -1})
    assert order == ["c", "d", "a"]
    queue = read_queue(out)
    assert [queue[name].priority for name in "abcde"] == [0, 0, 5, 7, -1]
    assert queue["a"].state == "interrupted" and queue["d"].state == "finished"
    # what was said once holds when it goes on, unless it is said anew
    done = train_cast(members, out, train, lambda error: Failure(str(error), 1), print, {"b": 9, "c": 0})
    assert order[3:] == ["b", "d", "a", "c", "e"] and [one.name for one in done] == list("abcde")


def test_priorities_that_mean_nothing_are_refused(tmp_path: Path):
    members = [member(tmp_path, name) for name in ("pip", "x=y")]
    assert read_priorities(["pip=-2", "x=y=3"], members) == {"pip": -2, "x=y": 3}
    for wrong, said in (("nib=1", "one of pip, x=y"), ("pip=high", "'high' is no whole number"), ("3", "use NAME=N")):
        with pytest.raises(InputError, match=re.escape(said)):
            read_priorities([wrong], members)
    (tmp_path / "queue.json").write_text(json.dumps({"characters": [vars(Standing("a", "a", "b", priority="1"))]}))
    with pytest.raises(InputError, match="the priority of a is '1'"):
        read_queue(tmp_path)
    make_folder(tmp_path / "pip", 4)
    done = charforge("train", "pip", "--priority", "pip=1", cwd=tmp_path)
    assert done.returncode == 1 and "--priority is for several characters" in done.stderr


def test_what_another_process_works_on_is_passed_over_and_not_written_about(tmp_path: Path):
    def train(one: Member, _: shared.SharedBase) -> TrainResult:
        with job.open_run(one.run, job.Settings(), {}):
            return trained(one)

    a, b = (member(tmp_path, name) for name in "ab")
    note_standing(tmp_path / "out", [Standing("a", "a", "out/a", "running")])
    with holding(a.run / "lease"):
        done = train_cast([a, b], tmp_path / "out", train, lambda error: Failure(str(error), 1), print)
    assert [one.state for one in done] == ["elsewhere", "finished"]
    assert "process" in done[0].error and exit_code(done) == 3
    assert read_queue(tmp_path / "out")["a"].state == "running"


def test_the_gravest_failure_decides():
    def codes(*given: int) -> int:
        return exit_code([Standing(str(n), "", "", exit_code=code) for n, code in enumerate(given)])

    assert [codes(0, 0), codes(0, 1), codes(3, 1, 0), codes(1, 70, 3)] == [0, 1, 3, 70]


def test_failures_of_every_kind_are_kept_and_the_queue_goes_on(tmp_path: Path):
    def train(one: Member, _: shared.SharedBase) -> TrainResult:
        raise {"a": MachineError("no card"), "b": OSError(28, "No space left", "x"), "c": KeyError("x")}[one.name]

    from charforge.cli.cast import explain

    done = train_cast([member(tmp_path, name) for name in "abc"], tmp_path / "out", train, explain, print)
    assert [one.exit_code for one in done] == [3, 3, 70]
    assert "the disk is full" in done[1].error and "fault of charforge" in done[2].error


def test_who_is_in_a_folder_of_folders(tmp_path: Path):
    make_folder(tmp_path / "cast" / "pip", 4)
    (tmp_path / "cast" / ".hidden").mkdir()
    (tmp_path / "cast" / "empty").mkdir()
    assert [path.name for path in characters_in(tmp_path / "cast")] == ["empty", "pip"]
    assert characters_in(tmp_path / "cast" / "pip") == []
    assert characters_in(tmp_path / "cast" / "empty") == [] and characters_in(tmp_path / "nowhere") == []
    # a character whose character.md is missing stays one, with the message of before
    make_folder(tmp_path / "lost" / "old", 4)
    (tmp_path / "lost" / "images").mkdir()
    assert characters_in(tmp_path / "lost") == []
    assert members_of([tmp_path / "cast" / "pip"], tmp_path / "out") is None
    assert members_of([tmp_path / "nowhere"], tmp_path / "out") is None
    named = members_of([tmp_path / "cast" / "pip", tmp_path / "nowhere"], tmp_path / "out")
    assert [one.run for one in named] == [tmp_path / "out" / "pip", tmp_path / "out" / "nowhere"]


def test_two_characters_never_share_a_run(tmp_path: Path):
    make_folder(tmp_path / "one" / "pip", 4)
    done = charforge("train", "one/pip", "two/PIP", "--out", "runs", cwd=tmp_path)
    assert done.returncode == 1 and "would have the same run" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_what_is_for_one_character_is_refused_for_several(tmp_path: Path):
    for option in (["--pairs", "p.jsonl"], ["--dry-run"]):
        done = charforge("train", "a", "b", "--out", "runs", *option, cwd=tmp_path)
        assert done.returncode == 1 and f"{option[0]} is for one character" in done.stderr
