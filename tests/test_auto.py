"""The preset ``auto``, and what is said of `mini` before it is trained. Machines are values here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import make_folder
from PIL import Image
from typer.testing import CliRunner

from charforge import auto
from charforge.auto import (
    Card,
    Choice,
    begun_preset,
    cards_here,
    choose_preset,
    preset_names,
    resolve_preset,
    unfinished,
)
from charforge.bases.can_draw import FLAT, flat_share, kind_of, sentence, what_mini_draws
from charforge.character import read_character
from charforge.cli.main import app
from charforge.errors import InputError
from charforge.files import write_atomic
from charforge.resources import preset_path, resource_folder
from charforge.settings import read_settings, settings_toml

SMALL = Card("A small card", 11.6, 11.0)
USUAL = Card("A 4090", 23.6, 22.9)
BUSY = Card("A busy 4090", 23.6, 16.0)
FULL = Card("A full 4090", 23.6, 3.0)
LARGE = Card("An H100", 79.1, 78.5)
BOTH = ("mini", "bagel")
PRESETS = ("bagel", "bagel-16gb", "bagel-24gb", "bagel-48gb", "bagel-80gb", "mini")


@pytest.mark.parametrize(
    ("cards", "host", "bases", "asked", "preset", "base", "words"),
    [
        ([], 16, ["mini"], None, "mini", "mini", "bagel needs a CUDA card of 16 GB or more; training on mini"),
        ([], 16, BOTH, None, "mini", "mini", "bagel needs a CUDA card of 16 GB or more; training on mini"),
        ([], 3, ["mini"], None, "mini", "mini", "mini (3.0 GiB are free, it takes up to 5.5: end other programs)"),
        ([SMALL], 16, BOTH, None, "mini", "mini", "A small card has 11.6 GiB; training on mini"),
        ([FULL], 16, BOTH, None, "mini", "mini", "3.0 are free: end other programs on it; training on mini"),
        ([USUAL], 16, ["mini"], None, "mini", "mini", "bagel is not here: charforge base pull bagel, 30 GB; "),
        ([USUAL], 5, BOTH, None, "mini", "mini", "the host's memory and 5.0 are free"),
        ([USUAL], 16, BOTH, None, "bagel-24gb", "bagel", "on bagel with the preset bagel-24gb: 22.9 GiB are free"),
        ([BUSY], 16, BOTH, None, "bagel-16gb", "bagel", "with other programs on it ended it would be bagel-24gb"),
        ([LARGE], 64, BOTH, None, "bagel-80gb", "bagel", "training on bagel with the preset bagel-80gb"),
        ([LARGE], 64, ["mini"], "mine", "bagel-80gb", "mine", "training on mine with the preset bagel-80gb"),
        ([LARGE], 64, BOTH, "mini", "mini", "mini", ""),
        ([], 64, BOTH, "mine", "mini", "mine", "training on mine with the steps of the preset mini"),
    ],
)  # fmt: skip
def test_the_best_that_a_machine_can_do(
    cards: list[Card], host: float, bases: list[str], asked: str | None, preset: str, base: str, words: str
):
    choice = choose_preset(cards, host, bases, PRESETS, asked)
    assert (choice.preset, choice.base) == (preset, base)
    assert words in choice.sentence and "\n" not in choice.sentence


def test_only_presets_that_there_are_are_chosen():
    assert set(PRESETS) == set(preset_names())
    assert choose_preset([LARGE], 64, BOTH, ["mini"]) == Choice("mini", "mini", "")


def test_the_card_is_the_one_that_computes(monkeypatch: pytest.MonkeyPatch):
    assert cards_here("cpu") == []
    monkeypatch.setattr("charforge.device.chosen_device", lambda name: name or "cuda")
    monkeypatch.setattr(
        torch.cuda, "mem_get_info", lambda device: {"cuda": (1 << 30, 2 << 30), "cuda:1": (3 << 30, 4 << 30)}[device]
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device}")
    assert cards_here() == [Card("card cuda", 2.0, 1.0)]
    assert cards_here("cuda:1") == [Card("card cuda:1", 4.0, 3.0)]


def make_run(folder: Path, preset: str, stage: str | None, **explicit: object) -> Path:
    write_atomic(folder / "config.toml", settings_toml(read_settings(preset_path(preset), None, [], **explicit)))
    if stage is not None:
        write_atomic(folder / "result.json", json.dumps({"stage": stage}))
    return folder


@pytest.mark.parametrize(
    ("stage", "seed", "kept"), [(None, 0, "bagel-24gb"), ("sft", 0, "bagel-24gb"), ("grpo", 0, None), (None, 1, None)]
)
def test_an_unfinished_run_keeps_its_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str | None, seed: int, kept: str | None
):
    make_folder(tmp_path / "pip")
    run = make_run(tmp_path / "runs/pip-1", "bagel-24gb", stage, seed=seed)
    damaged = tmp_path / "runs/pip-2"
    write_atomic(damaged / "config.toml", "[sft")
    monkeypatch.setattr(auto, "cards_here", lambda device: [BUSY])
    monkeypatch.setattr(auto, "bases_here", lambda: set(BOTH))
    monkeypatch.setattr(auto, "available_host_gib", lambda: 16.0)
    choice = resolve_preset("auto", tmp_path / "pip", [], None, unfinished([run, damaged]), seed=0)
    assert choice.preset == (kept or "bagel-16gb")
    assert (f"going on with {run}" in choice.sentence) is (kept is not None)


def test_what_differs_in_memory_alone_is_the_same_run(tmp_path: Path):
    run = make_run(tmp_path / "run", "mini", None)
    tight = read_settings(preset_path("mini"), None, ["memory.micro_batch=1"])
    assert begun_preset([run], {"tight": tight}) == (run, "tight")
    assert begun_preset([tmp_path / "nothing"], {"tight": tight}) is None


def test_a_named_preset_is_taken_as_it_is_and_a_base_that_was_asked_for_too(tmp_path: Path):
    make_folder(tmp_path / "pip")
    assert resolve_preset("bagel-80gb", tmp_path / "pip", [], "cpu") == Choice("bagel-80gb", "bagel", "")
    for given in ({"base": "mini"}, {}):
        (tmp_path / "pip/charforge.toml").write_text("" if given else 'base = "mini"\n', "utf-8")
        assert resolve_preset("auto", tmp_path / "pip", [], "cpu", **given) == Choice("mini", "mini", "")
    assert resolve_preset("auto", tmp_path / "pip", ["base='mine'"], "cpu").base == "mine"
    with pytest.raises(InputError, match=r"sft\.stepz"):
        resolve_preset("auto", tmp_path / "pip", ["sft.stepz=1"], "cpu")


def test_check_and_train_say_what_they_would_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_folder(tmp_path / "pip")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(auto, "cards_here", lambda device: [USUAL])
    monkeypatch.setattr(auto, "bases_here", lambda: {"mini"})
    chosen = "bagel is not here: charforge base pull bagel, 30 GB; training on mini"
    plain = CliRunner().invoke(app, ["check", "pip", "--no-cost"])
    checked = CliRunner().invoke(app, ["check", "pip", "--no-cost", "--json"])
    trained = CliRunner().invoke(app, ["train", "pip", "--dry-run", "--json"])
    for result in (plain, trained):
        assert result.exit_code == 0 and result.stderr.count(chosen) == 1
        assert "mini draws voxel people" in result.stderr
    for result in (checked, trained):
        told = json.loads(result.stdout)
        assert told["preset"] == {"name": "mini", "base": "mini", "why": chosen}
        assert told["mini_draws"].startswith("mini draws")
    assert told["cost"]["host_peak_gib"] > 0


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("voxel person", ("person", True)), ("blobby purple critter", ("critter", True)),
        ("old woman", ("person", False)),
        ("clay robot", ("clay", False)), ("Shiba Inu dog", None), ("manatee", None), ("猫耳の少女", None),
    ],
)  # fmt: skip
def test_kinds_in_words(words: str, kind: object):
    assert kind_of(words) == kind


def test_flat_colours_and_photographs():
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8))
    half = np.zeros((41, 41, 3), np.uint8)
    half[:20] = rng.integers(0, 255, (20, 41, 3), np.uint8)
    assert (
        flat_share(noisy) < 0.01 and flat_share(Image.new("RGB", (9, 9))) == flat_share(Image.new("L", (1, 1))) == 1.0
    )
    assert flat_share(Image.fromarray(half)) == pytest.approx(20 / 40, abs=0.03)
    assert "colours only (guessed: 18 %" in sentence("Bo", "dog", [], 0.18)
    assert "hardly the shape (guessed" in sentence("Koa", "dog", [], 0.98)
    assert "is one of them, a voxel robot" in sentence("Bolt", "one", ["a white voxel robot, smiling"], 0.9)


def test_wren_is_drawn_and_one_of_its_kinds():
    wren = read_character(resource_folder("examples") / "wren")
    assert what_mini_draws(wren).endswith("Wren is one of them, a voxel person")
    assert all(flat_share(Image.open(picture.path)) > FLAT + 0.3 for picture in wren.pictures)
