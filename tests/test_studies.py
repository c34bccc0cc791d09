"""Every script of docs/studies runs at its smallest size; what its figures say is for docs/log.md."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tomllib
from itertools import combinations
from pathlib import Path

import pytest
from served import served, tiny_engine

ROOT = Path(__file__).parent.parent
STUDIES = ROOT / "docs" / "studies"
FIRST_STAGE = ["--set", "sft.steps=1"]
SECOND_STAGE = [
    argument
    for value in ("iterations=1", "prompts=1", "updates=1", "group=4", "steps=3", "window=1", "window_last_start=0")
    for argument in ("--set", f"grpo.{value}")
]


def in_this_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, *arguments: str
) -> str:
    """What ``python docs/studies/NAME ARGUMENTS`` prints."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.syspath_prepend(str(STUDIES))
    runpy.run_path(str(STUDIES / name), run_name="__main__")
    return capsys.readouterr().out


def in_its_own(name: str, *arguments: str) -> str:
    """The same in a process of its own, on one thread."""
    command = [sys.executable, str(STUDIES / name), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1500)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_study_has_a_test():
    own = Path(__file__).read_text("utf-8")
    assert [study.name for study in STUDIES.glob("*.py") if f'"{study.name}"' not in own] == []


def test_the_examples_are_characters_and_how_to_train_many():
    entries = [entry for entry in (ROOT / "examples").iterdir() if entry.name != "deploy"]
    assert [entry.name for entry in entries if not (entry / "character.md").exists()] == []


def test_a_wheel_carries_no_study():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["charforge"]
    assert wheel["force-include"].keys() == {"presets", "examples"}


def test_a_server_is_loaded(monkeypatch, capsys):
    with served(tiny_engine()) as address:
        figures = json.loads(
            in_this_process(
                monkeypatch,
                capsys,
                "serving_load.py",
                address,
                "--clients",
                "3",
                "--seconds",
                "1",
                "--disconnects",
                "50",
            )
        )
    assert figures["replies"] > 0 and figures["errors"] == 0 and figures["to_first_word"]["p50"] >= 0


def test_reading_is_measured(monkeypatch, capsys):
    printed = in_this_process(
        monkeypatch, capsys, "measure_reading.py", "--expand", "--megabytes", "0.02", "--entries", "40"
    )
    assert [line.split(" read")[0].strip() for line in printed.splitlines()] == [
        "chat 0.02 MB", "chat 0.005 MB", "lorebook 40", "lorebook 10",
    ]  # fmt: skip
    assert printed.count("expand") == 4


def test_the_table_of_the_second_stage_pairs_its_scenes(tmp_path, monkeypatch, capsys):
    def line(arm: str, scenes: list[float]) -> str:
        values = {"probe_scene": scenes, "identity": [0.5, 0.5]}
        return json.dumps({"character": "Ada", "seed": 0, "arm": arm, "values": values})

    study = tmp_path / "study.jsonl"
    study.write_text("\n".join([line("sft", [0.5, 0.0]), line("grpo", [0.75, 0.25]), line("sft_longer", [0.5, 0.0])]))
    printed = in_this_process(monkeypatch, capsys, "grpo_table.py", str(study))
    assert "1 characters and seeds" in printed
    # both scenes gain a quarter: the interval has no width
    assert printed.count("+0.250 (+0.250 to +0.250)") == 2


def test_wren_is_drawn_as_she_lies_in_the_examples(tmp_path, monkeypatch, capsys):
    for library in ("cairosvg", "dicebear"):
        pytest.importorskip(library, reason=f"{library} belongs to the extra `recipe`")
    in_this_process(monkeypatch, capsys, "draw_wren.py", "--out", str(tmp_path))
    there = ROOT / "examples" / "wren" / "images"
    for number in range(1, 11):
        assert (tmp_path / f"{number:02d}.txt").read_text("utf-8") == (there / f"{number:02d}.txt").read_text("utf-8")


@pytest.mark.slow
def test_decoding_is_compared():
    printed = json.loads(in_its_own("decode_benchmark.py", "--tokens", "2", "--rounds", "1"))
    assert len(printed["ratios"]) == 1
    assert printed["tokens_per_s"].keys() == {"transformers", "charforge"}


@pytest.mark.slow
def test_predicted_memory_is_compared():
    name = "512 wide, 8 layers, layers twice"
    printed = in_its_own("memory_prediction.py", "--shapes", name)
    assert printed.startswith(name)
    assert "ratio" in printed


@pytest.mark.slow
def test_loading_is_measured(tmp_path):
    arguments = ("--scratch", str(tmp_path), "--layers", "1", "--narrow", "--kinds", "bf16", "--json")
    printed = json.loads(in_its_own("load_memory.py", *arguments))
    assert printed.keys() == {"seconds", "peak", "result", "over"}
    assert list(tmp_path.iterdir()) == [], "the checkpoint is removed"


@pytest.mark.slow
def test_a_shared_processor_is_measured():
    (row,) = json.loads(
        in_its_own("shared_processor.py", "--threads", "1", "--rounds", "1", "--busy", "1", "--ways", "passive")
    )
    assert row["step alone"] > 0
    assert row["speak beside 1"] > 0


@pytest.mark.slow
def test_the_economies_of_the_second_stage_are_measured():
    printed = in_its_own("grpo_cost.py", "--threads", "1", "--repeats", "1", *SECOND_STAGE)
    assert printed.count("pictures/s") == 5
    assert "together" in printed


@pytest.mark.slow
def test_the_second_stage_is_compared_with_its_controls(tmp_path):
    pytest.importorskip("dicebear", reason="dicebear belongs to the extra `recipe`")
    out = tmp_path / "study.jsonl"
    arguments = ("--characters", "0", "--arms", "sft", "grpo", "--scenes", "1", "--threads", "1")
    work = ("--work", str(tmp_path / "work"))
    in_its_own("grpo_study.py", str(out), *arguments, *work, *FIRST_STAGE, *SECOND_STAGE)
    arms = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [line["arm"] for line in arms] == ["sft", "grpo"]
    assert all(len(line["values"]["probe_scene"]) == 1 for line in arms)


def test_hard_scenes_ask_for_a_thing_and_share_no_two_details(monkeypatch, tmp_path):
    pytest.importorskip("dicebear", reason="dicebear belongs to the extra `recipe`")
    monkeypatch.syspath_prepend(str(STUDIES))
    from hard_scenes import HELD_OUT, TRAIN, asked_words, hard_scenes, load_probe, read_character, subject, write_folder

    probe = load_probe(ROOT / "charforge" / "recipe" / "probe.safetensors")
    # a person, and a potted sprout that wears nothing
    for number in (0, 3):
        who = subject(number)
        write_folder(who, tmp_path / who.name)
        scenes = hard_scenes(read_character(tmp_path / who.name), who.look, 1)
        asked = [asked_words(scene) for scene in scenes]
        for words in asked:
            # the garment and its colour are one detail
            assert "thing" in words and len(words) - ("color" in words) in (3, 4)
            for name, word in words.items():
                assert word in [value.removeprefix("with ") for value in probe.values[name]]
        pairs = [set(combinations(sorted(check.question for check in one.checks if check.answer), 2)) for one in scenes]
        held, trained = pairs[:HELD_OUT], pairs[HELD_OUT:]
        assert [scene.split for scene in scenes] == ["held_out"] * HELD_OUT + ["train"] * TRAIN
        assert not any(one & other for one in held for other in trained)


def test_a_judge_is_right_as_often_as_it_ranks_siblings_right(monkeypatch):
    pytest.importorskip("dicebear", reason="dicebear belongs to the extra `recipe`")
    monkeypatch.syspath_prepend(str(STUDIES))
    import numpy as np
    from hard_scenes import ranked_right

    truth = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert ranked_right(np.array([[0.9, 0.8], [0.2, 0.1], [0.7, 0.1]]), truth) == 1.0
    # that one scene is easier than another says nothing
    assert ranked_right(np.array([[0.9, 0.9], [0.1, 0.1], [0.0, 0.0]]), truth) == 0.5
    assert np.isnan(ranked_right(np.zeros((1, 2)), np.ones((1, 2))))


@pytest.mark.slow
def test_the_ways_of_learning_are_compared_on_hard_scenes(tmp_path):
    pytest.importorskip("dicebear", reason="dicebear belongs to the extra `recipe`")
    out = tmp_path / "study.jsonl"
    arguments = (str(out), "--characters", "0", "--seeds", "0", "--scenes", "1", "--each", "2", "--steps", "3")
    arms = ("--arms", "sft", "longer", "grpo", "best_of", "limits")
    small = ("--seconds", "1", "--iterations", "grpo=1", "--work", str(tmp_path / "work"), *FIRST_STAGE)
    second = (*SECOND_STAGE, "--set", "grpo.prompts=4", "--set", "grpo.group=6")
    in_its_own("hard_scenes.py", *arguments, *arms, *small, *second)
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [line["arm"] for line in lines] == ["sft", "longer", "grpo", "best_of", "limits"]
    in_its_own("hard_scenes.py", *arguments, *arms, *small, *second)
    assert len(out.read_text("utf-8").splitlines()) == len(lines), "what is there is not done again"
    printed = in_its_own("hard_scenes.py", str(out), "--table")
    assert "grpo less longer" in printed and "best by truth" in printed


@pytest.mark.slow
def test_what_the_reward_sees_is_measured(tmp_path):
    pytest.importorskip("dicebear", reason="dicebear belongs to the extra `recipe`")
    arguments = ("5", "--scenes", "1", "--threads", "1", "--work", str(tmp_path))
    printed = in_its_own(
        "reward_signal.py", *arguments, *FIRST_STAGE, "--set", "grpo.steps=4", "--set", "grpo.window_last_start=0"
    )
    assert printed.count("correlation") == 3
    assert printed.count("variety moves") == 3


@pytest.mark.slow
def test_measures_are_held_against_the_truth(tmp_path):
    pytest.importorskip("dicebear", reason="dicebear belongs to the extra `recipe`")
    out = tmp_path / "truth.json"
    in_its_own("measure_truth.py", str(out), "--characters", "2", "--judged", "1", "--asked", "2")
    found = json.loads(out.read_text("utf-8"))
    for name in ("likeness, efficientnet-lite0: noise", "scene: parts of the scene", "voice_distance: another's words"):
        assert found[name]["value"] > 0.4, name
    assert found["copies: share of copies called so (level)"]["value"] == 1
    assert found["copies: share of softened copies called so (level)"]["value"] == 1


def test_characters_in_one_pass_are_measured(monkeypatch, capsys):
    arguments = ("--characters", "2", "--steps", "1")
    found = json.loads(in_this_process(monkeypatch, capsys, "one_pass.py", *arguments, "--measure", "together"))
    assert found["seconds"] > 0 and found["mib"] >= 0
    printed = in_this_process(monkeypatch, capsys, "one_pass.py", *arguments, "--part", "speaking")
    assert printed.splitlines()[1].startswith("2 | ")


@pytest.mark.slow
def test_expansion_is_compared_with_the_seeds_alone(tmp_path):
    pytest.importorskip("dicebear", reason="dicebear belongs to the extra `recipe`")
    out = tmp_path / "ablation.jsonl"
    arguments = ("--arms", "seeds", "template", "--threads", "1", "--first", "2")
    every = ("--set", "adapter.frozen_share=0")
    printed = in_its_own("ablation.py", str(out), str(ROOT / "examples" / "wren"), *arguments, *every, *FIRST_STAGE)
    assert "template less seeds, 2 questions" in printed


@pytest.mark.slow
def test_the_sheet_of_wren_is_drawn(tmp_path):
    from command import charforge

    run = tmp_path / "run"
    tiny = (*FIRST_STAGE, "--set", "sft.study_share=0", "--set", "sft.replay_looks=0")
    done = charforge(
        "train", str(ROOT / "examples" / "wren"), "--preset", "mini", "--stage", "sft", "--out", str(run), *tiny
    )
    assert done.returncode == 0, done.stderr
    sheet = tmp_path / "sheet.png"
    printed = in_its_own("make_sheet.py", str(run / "wren.charx"), "--first", "1", "--out", str(sheet))
    assert json.loads(printed).keys() == {"question", "with", "without"}
    assert sheet.exists()
