"""The main job through the command, on a small random base: its result, staged, measured, bundled, talked to.

On the embedded base: tests/test_train_mini.py. Killed at any moment: tests/test_kills.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import charforge
from folders import make_folder
from kills import SETTINGS
from layout import write_checkpoint
from PIL import Image
from playback import served, without_pauses
from released import write_release

from charforge.bundle import read_bundle, write_bundle

CHANGES = {"sft.steps": 3, "sft.preview_every": 2, "grpo.iterations": 2, "grpo.prompts": 1, "grpo.updates": 1,
           "evaluation.share": 0}  # fmt: skip
SHORT = [
    "pip", "--base", "./base",
    *(part for key, value in (SETTINGS | CHANGES).items() for part in ("--set", f"{key}={value}")),
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict]]:
    folder = tmp_path_factory.mktemp("train")
    write_checkpoint(folder / "base")
    make_folder(folder / "pip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARFORGE_CACHE", str(folder / "cache"))
        done = charforge("train", *SHORT, "--json", "--out", "whole", cwd=folder)
        assert done.returncode == 0, done.stderr
        yield folder, json.loads(done.stdout)


def test_the_result_names_run_bundle_and_metrics(trained):
    folder, told = trained
    assert set(told) == {"run", "bundle", "metrics"}
    run = folder / told["run"]
    assert (folder / told["bundle"]).is_file()
    for name in ("config.toml", "pairs/pairs.jsonl", "metrics.jsonl", "report.html", "before_after.png"):
        assert (run / name).is_file(), name
    for key in (
        "held_out_perplexity_off",
        "held_out_perplexity_on",
        "held_out_image_loss_on",
        "held_out_requests_on",
        "best_step",
    ):
        assert told["metrics"][key] is not None


def test_running_it_again_does_nothing_and_says_the_same(trained):
    folder, told = trained
    again = charforge("train", *SHORT, "--json", "--out", "whole", cwd=folder)
    assert json.loads(again.stdout) == told
    assert "nothing left to do" in again.stderr


def test_other_settings_do_not_continue_a_run(trained):
    folder, _ = trained
    done = charforge("train", *SHORT, "--out", "whole", "--seed", "9", cwd=folder)
    assert done.returncode == 1
    assert "seed is 0 there and 9 now" in done.stderr and "Choose a new --out, or --restart" in done.stderr


def test_the_first_stage_alone_and_the_second_later_end_in_the_same_adapter(trained):
    folder, told = trained
    early = charforge("train", *SHORT, "--stage", "grpo", "--out", "staged", cwd=folder)
    assert early.returncode == 1 and "--stage sft first" in early.stderr
    first = charforge("train", *SHORT, "--stage", "sft", "--json", "--out", "staged", cwd=folder)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["metrics"]["stage"] == "sft"
    assert not (folder / "staged/checkpoints/grpo").exists()
    both = charforge("train", *SHORT, "--stage", "grpo", "--json", "--out", "staged", cwd=folder)
    assert both.returncode == 0, both.stderr
    assert json.loads(both.stdout)["metrics"]["stage"] == "grpo"
    whole = (folder / told["run"] / "adapter/adapter_model.safetensors").read_bytes()
    assert (folder / "staged/adapter/adapter_model.safetensors").read_bytes() == whole


def test_the_second_stage_is_logged_and_in_the_report(trained):
    folder, told = trained
    run = folder / told["run"]
    assert told["metrics"]["grpo_iterations"] == 2
    for when in ("before", "after"):
        assert 0 <= told["metrics"][f"scenes_gold_{when}"] <= 1
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    iterations = [line for line in lines if line["kind"] == "grpo"]
    assert [line["iteration"] for line in iterations] == [1, 2]
    assert all(0 <= line["sampling_gap_mean"] <= line["sampling_gap_max"] < 1e-2 for line in iterations)
    page = (run / "report.html").read_text()
    assert "Second stage" in page and "held-out dialogues: perplexity" in page and "held_out_perplexity" not in page


def test_eval_measures_a_run_with_intervals(trained):
    folder, _ = trained
    done = charforge("eval", "whole", "-n", "1", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (line,) = json.loads(done.stdout)["runs"]
    assert line["run"] == "whole"
    for name in ("scene", "identity", "copy_rate", "voice", "requests"):
        assert line["metrics"][name]["low"] <= line["metrics"][name]["value"] <= line["metrics"][name]["high"], name
    assert (folder / "whole/evaluation.png").is_file()
    assert line["metrics"]["prompt_tokens_saved"]["value"] >= 0 and line["before"]["voice_card"]["value"] > 1
    wrong = charforge("eval", "pip", cwd=folder)
    assert wrong.returncode == 1 and "no finished run" in wrong.stderr


def test_the_benchmark_asks_and_draws_by_name(trained, monkeypatch: pytest.MonkeyPatch):
    folder, told = trained
    without_pauses(monkeypatch)
    write_release(folder / "release")
    asked = ("--benchmark", "rolescape", "release", "-n", "1", "--json")
    done = charforge("eval", "whole", *asked, cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["runs"][0]["metrics"]["voice"]
    tables = found["benchmark"]
    metrics = tables["characters"]["Pip"]
    assert set(tables["characters"]) == {"Pip"} and "left out: Nan" in done.stderr
    drawn = [f"{kind}_{measure}" for kind in ("t2i", "roleplay") for measure in ("identity", "copy_rate")]
    for name in (*drawn, "vqa", "knowledge", "calibrated", "dialogue_perplexity", "dialogue_chrf"):
        assert set(metrics[name]) == {"value", "low", "high", "n"}, name
        assert metrics[name]["low"] <= metrics[name]["high"]
        if name != "dialogue_chrf":
            assert tables["names_replaced"]["Pip"][name]["n"] == metrics[name]["n"]
    # the run's own pairs ask where Pip lives and what he collects
    assert (metrics["knowledge"]["n"], metrics["t2i_identity"]["n"]) == (1, 2)
    assert tables["items"]["Pip"]["knowledge"] == {"parsed": 3, "leaked": 2}
    assert "item 4" in done.stderr, "what cannot be read is named"
    bare = tables["bare"]["Pip"]
    assert bare["real_identity"] == metrics["real_identity"]
    assert bare["dialogue_perplexity"] != metrics["dialogue_perplexity"]
    # a bundle does not say what it was trained on: all that the release trains on counts as known
    with served(lambda system, asked: '{"score": 2}') as url:
        judge = ("--judge-url", url, "--judge-model", "tiny", "--quick")
        alone = charforge("eval", told["bundle"], *asked, *judge, cwd=folder)
    assert alone.returncode == 0, alone.stderr
    found = json.loads(alone.stdout)
    assert found["runs"] == []
    tables = found["benchmark"]
    assert tables["items"]["Pip"]["dialogues"] == {"parsed": 2, "leaked": 1}
    for state in ("characters", "bare"):
        assert tables[state]["Pip"]["memorization"] == {"value": 0.25, "low": 0.25, "high": 0.25, "n": 1}
        assert {"personality", "wordless", "wrong_names", "breaks_character"} <= tables[state]["Pip"].keys()
    assert "wordless" not in tables["names_replaced"]["Pip"]
    # the same reply to the same question is judged once
    assert 2 <= found["judge"]["Pip"]["requests"] <= 4 and (folder / "whole/pip.judged.jsonl").exists()
    assert "personality" not in metrics, "nobody judged"
    wrong = charforge("eval", "whole", "--benchmark", "another", "release", cwd=folder)
    assert wrong.returncode == 1 and "there is rolescape" in wrong.stderr
    twice = charforge("eval", "whole", told["bundle"], *asked, cwd=folder)
    assert twice.returncode == 1 and "a second Pip" in twice.stderr


def test_chat_says_and_repeats_itself_with_the_same_seed(trained):
    folder, told = trained
    talk = ("chat", told["bundle"], "--say", "Hello, who are you?", "--seed", "3", "--json")
    first, second = charforge(*talk, cwd=folder), charforge(*talk, cwd=folder)
    assert first.returncode == 0, first.stderr
    reply = json.loads(first.stdout)
    assert set(reply) == {"reply", "image"}
    assert reply["reply"]
    assert json.loads(second.stdout)["reply"] == reply["reply"]


def test_imagine_writes_one_picture_and_the_same_again(trained):
    folder, told = trained
    for out in ("one.png", "two.png"):
        done = charforge("imagine", told["bundle"], "smiling, in a forest", "--seed", "3", "--out", out, cwd=folder)
        assert done.returncode == 0, done.stderr
    with Image.open(folder / "one.png") as picture:
        assert picture.size == (64, 64)
    assert (folder / "one.png").read_bytes() == (folder / "two.png").read_bytes()


def test_a_bundle_of_another_base_is_refused(trained, tmp_path: Path):
    folder, told = trained
    bundle = read_bundle(folder / told["bundle"])
    bundle.extract_adapter(tmp_path)
    other = bundle.manifest.model_copy(
        update={"base": bundle.manifest.base.model_copy(update={"content_hash": "0" * 64})}
    )
    write_bundle(tmp_path / "other.charx", other, tmp_path, (), bundle.avatar())
    done = charforge("chat", str(tmp_path / "other.charx"), "--say", "hi", cwd=folder)
    assert done.returncode == 1
    assert "was trained on other weights of ./base (000000000000)" in done.stderr


def test_int8_base_trains(trained):
    folder, _ = trained
    # both stages on quantised shapes: tests/test_bench.py; here the command
    replay = ("--set", "sft.replay_texts=0", "--set", "sft.replay_pictures=0")
    brief = (*SHORT, "--set", "sft.steps=1", *replay, "--stage", "sft")
    done = charforge("train", "--json", *brief, "--quantize", "int8", "--out", "int8", cwd=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert read_bundle(folder / told["bundle"]).manifest.base.precision == "int8"
