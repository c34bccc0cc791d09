"""The main job on the embedded base, as programs meet it: one short step, and (slow) killed, continued, talked to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from command import charforge as in_this_process
from folders import make_folder
from PIL import Image

from charforge.bundle import read_bundle
from charforge.expand import Pair, read_pairs, write_pairs

SHORT = [
    "--set", "sft.steps=3", "--set", "sft.dialogues=1", "--set", "sft.knowledge=0", "--set", "sft.looks=1",
    "--set", "sft.study_share=0",
    "--set", "sft.pictures=1", "--set", "sft.replay_pictures=1", "--set", "sft.draws=1",
    "--set", "sft.evaluate_every=2", "--set", "sft.preview_every=2", "--set", "sft.checkpoint_every=1",
    "--set", "chat.max_tokens=6", "--set", "pictures.draw_steps=4",
    "--set", "grpo.iterations=2", "--set", "grpo.prompts=1", "--set", "grpo.group=4", "--set", "grpo.updates=1",
    "--set", "grpo.steps=4", "--set", "grpo.window=1", "--set", "grpo.window_last_start=1",
    "--set", "grpo.anchor_pictures=1", "--set", "grpo.held_out_pictures=1", "--set", "grpo.evaluate_every=2",
    "--set", "grpo.preview_every=2", "--set", "grpo.checkpoint_every=1", "--pairs", "few.jsonl",
]  # fmt: skip
BRIEF = [
    "--set", "sft.steps=1", "--set", "chat.max_tokens=2", "--set", "pictures.draw_steps=2",
    "--set", "sft.replay_looks=0", "--set", "sft.replay_texts=0", "--stage", "sft",
]  # fmt: skip


def charforge(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "charforge.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=1200, check=False)


def folder_with_few_pairs(where: Path) -> None:
    """A character ``pip`` in ``where``, and ``few.jsonl``: two pairs of each kind, so that little is read and said."""
    make_folder(where / "pip")
    assert in_this_process("expand", "pip", "--out", "all.jsonl", cwd=where).returncode == 0
    few: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in read_pairs(where / "all.jsonl"):
        few[pair.task, pair.split].append(pair)
    # requests that are held out are answered in whole replies
    del few["roleplay_request", "held_out"]
    write_pairs(where / "few.jsonl", [pair for pairs in few.values() for pair in pairs[:2]])


def test_one_step_on_the_embedded_base_makes_a_bundle_that_draws(tmp_path: Path):
    folder_with_few_pairs(tmp_path)
    options = ("--preset", "mini", *SHORT, *BRIEF, "--out", "run", "--json")
    done = in_this_process("train", "pip", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    manifest = read_bundle(tmp_path / told["bundle"]).manifest
    assert (manifest.base.name, manifest.adapter.first_layer) == ("mini", 10)
    # the bare base talks: far below chance, which is the size of its vocabulary
    assert 1 < told["metrics"]["held_out_perplexity_off"] < 200
    drawn = in_this_process("imagine", told["bundle"], "smiling", "--seed", "3", "--out", "x.png", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (128, 128)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("train")
    folder_with_few_pairs(folder)
    done = charforge("train", "pip", "--json", *SHORT, "--out", "whole", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.mark.slow
def test_killed_at_some_step_and_run_again_gives_the_same_adapter_to_the_bit(trained):
    folder, told = trained
    command = [sys.executable, "-m", "charforge.cli.main", "train", "pip", *SHORT, "--out", "cut"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = folder / "cut/metrics.jsonl"
    deadline = time.monotonic() + 300
    while not (metrics.exists() and '"step": 2' in metrics.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "cut/result.json").exists()
    done = charforge("train", "pip", *SHORT, "--out", "cut", cwd=folder)
    assert done.returncode == 0, done.stderr
    whole = (folder / told["run"] / "adapter/adapter_model.safetensors").read_bytes()
    assert (folder / "cut/adapter/adapter_model.safetensors").read_bytes() == whole


@pytest.mark.slow
def test_chat_says_and_repeats_itself_with_the_same_seed(trained):
    folder, told = trained
    talk = ("chat", told["bundle"], "--say", "Hello, who are you?", "--seed", "3", "--json")
    first, second = charforge(*talk, cwd=folder), charforge(*talk, cwd=folder)
    assert first.returncode == 0, first.stderr
    reply = json.loads(first.stdout)
    assert set(reply) == {"reply", "image"}
    assert reply["reply"]
    assert json.loads(second.stdout)["reply"] == reply["reply"]


@pytest.mark.slow
def test_imagine_writes_one_picture_and_the_same_again(trained):
    folder, told = trained
    for out in ("one.png", "two.png"):
        done = charforge("imagine", told["bundle"], "smiling, in a forest", "--seed", "3", "--out", out, cwd=folder)
        assert done.returncode == 0, done.stderr
    with Image.open(folder / "one.png") as picture:
        assert picture.size == (128, 128)
    assert (folder / "one.png").read_bytes() == (folder / "two.png").read_bytes()


@pytest.mark.slow
def test_int8_base_trains(trained):
    folder, _ = trained
    brief = (*SHORT, "--set", "sft.steps=1", "--stage", "sft")
    done = charforge("train", "pip", "--json", *brief, "--quantize", "int8", "--out", "int8", cwd=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert read_bundle(folder / told["bundle"]).manifest.base.precision == "int8"
