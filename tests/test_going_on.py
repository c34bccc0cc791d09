"""A run on a small random base, through everything that can go wrong after its first stage, and its folder."""

from __future__ import annotations

import errno
import html
import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from command import charforge
from folders import make_folder
from kills import SETTINGS
from layout import write_checkpoint
from playback import served, without_pauses

from charforge.bundle import read_bundle
from charforge.character import Character, read_character
from charforge.errors import InputError, MachineError
from charforge.evaluate.measure import draw_scenes, load_run
from charforge.evaluate.whole import Measured, measure_within
from charforge.resources import preset_path
from charforge.run import finish, job
from charforge.run.evaluation import evaluate_at_end
from charforge.run.finish import plain_avatar
from charforge.run.folder import ASIDE, check_base, check_run, find_run, is_held, open_run, set_aside, working_in
from charforge.run.identity import inputs_of, setting_differences
from charforge.run.job import TrainResult, full_disk_in_words, train_character
from charforge.run.listing import list_runs, run_line
from charforge.run.sittings import Sittings
from charforge.settings import Settings, deciding, read_settings

BRIEF = SETTINGS | {"sft.steps": 2, "sft.preview_every": 2, "grpo.iterations": 1, "grpo.updates": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    """A folder with a base and a character, and a cache of its own."""
    folder = tmp_path_factory.mktemp("going-on")
    write_checkpoint(folder / "base")
    make_folder(folder / "pip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARFORGE_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield folder


def train(place: Path, *changes: str, **options: Any) -> TrainResult:
    overrides = [f"{key}={value}" for key, value in BRIEF.items()] + list(changes)
    given: dict[str, Any] = {"out": None, "seed": None, "quantize": None, "base": str(place / "base")} | options
    return train_character(Path("pip"), preset="mini", overrides=overrides, **given)


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture(scope="module")
def history(place: Path) -> SimpleNamespace:
    """Four sittings of one run, none of which names its folder, and what was told of each."""
    told = SimpleNamespace(states=[])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "second_stage", broken)
        with pytest.raises(MachineError) as failed:
            train(place)
        told.failed = str(failed.value)
    told.run = next(Path("runs").iterdir())
    told.states.append(run_line(told.run))
    told.failure = json.loads((told.run / "failure.json").read_text())
    told.first = read_bundle(told.run / "pip.charx")
    told.first_metrics = json.loads((told.run / "result.json").read_text())
    told.first_report = (told.run / "report.html").read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "evaluate", broken)
        patch.setattr(finish, "evaluate_at_end", broken)
        patch.setattr(finish, "write_report", broken)
        told.second = train(place, "sft.preview_every=1", "grpo.micro_batch=3", "grpo.learning_rate=0.01")
    told.states.append(run_line(told.run))
    told.bundle = read_bundle(told.run / "pip.charx")
    told.third = train(place, "grpo.learning_rate=0.01")
    told.states.append(run_line(told.run))
    told.fourth = train(place, "grpo.learning_rate=0.01")
    return told


def test_the_second_stage_fails_and_the_first_stages_bundle_and_report_stand(history):
    bundle = history.run / "pip.charx"
    assert "CUDA out of memory" in history.failed
    assert f"bundle is whole and ready to use: {bundle}" in history.failed
    assert f"charforge train pip --out {history.run}" in history.failed
    assert history.first.manifest.evaluation["held_out_perplexity_on"] > 1
    assert history.first_metrics["stage"] == "sft" and "held_out_perplexity_on" in history.first_metrics
    assert "Before and after" in history.first_report and "Second stage" not in history.first_report
    state = history.states[0]
    assert (state.state, state.stage, state.bundle) == ("failed", "grpo", str(bundle))
    assert "CUDA out of memory" in state.error
    assert "in broken" in history.failure["traceback"]


def test_without_out_the_second_stage_goes_on_where_the_first_one_ended_with_settings_of_its_own(history):
    assert [r for r in Path("runs").iterdir() if r.is_dir()] == [history.run]
    assert history.second.run == history.run
    assert history.second.metrics["stage"] == "grpo"
    assert "learning_rate = 0.01" in (history.run / "config.toml").read_text()


def test_measuring_and_report_fail_and_cost_themselves_alone(history):
    assert set(history.second.metrics["failed_parts"]) == {"measuring", "the evaluation", "the report"}
    assert history.bundle.manifest.training.settings["grpo"]["learning_rate"] == 0.01
    assert history.states[1].state == "finished"


def test_the_first_of_two_stages_is_not_evaluated_and_the_run_ends_with_a_verdict(history):
    assert "evaluation" not in history.first_metrics and "evaluation" not in history.second.metrics
    told = history.third.metrics["evaluation"]
    assert told["verdict"].startswith("Pip ") and told["scenes"] >= 2
    assert {"likeness", "scene", "copy_rate", "voice", "sameness"} <= told["metrics"].keys() & told["before"].keys()
    report = (history.run / "report.html").read_text()
    assert f"From {told['scenes']} new scenes" in report and html.escape(told["verdict"], quote=False) in report
    assert told["verdict"] in (history.run / "evaluation.md").read_text()
    assert "charforge" in (history.run / "evaluation.html").read_text()


def test_an_evaluation_takes_as_many_scenes_as_its_time_allows(history):
    opened = load_run(history.run, "cpu")
    steps: list[tuple[int, int]] = []

    def within(seconds: float, *ticks: float) -> Measured | None:
        now = iter((0.0, *ticks))
        return measure_within(
            history.run, opened, seconds, 1.0, lambda done, of: steps.append((done, of)), lambda: next(now)
        )

    # two scenes, drawn and judged with the adapter and without it, take 5.2 seconds; the bare base may talk longer
    assert within(5.1) is None
    assert within(7.6, 1.0) is None and steps == []
    # words end after 3.0; a pair of pictures takes 2.0, judging them as well 2.6: three are 7.8
    measured = within(11.0, 1.0, 3.0, 3.0, 5.0, 7.0, 9.0)
    assert measured is not None and measured.before is not None
    assert len(measured.after.drawn.pictures) == len(measured.before.drawn.pictures) == 3
    assert steps[-1][0] == steps[-1][1] and sorted(steps) == steps
    assert measured.after.drawn.scenes == opened.scenes[:3]
    # the noise is that of the whole evaluation: what is said of a scene does not depend on the clock
    whole = draw_scenes(opened.base, opened.scenes[:3], 1, lambda done, of: None).pictures
    torch.testing.assert_close(measured.after.drawn.pictures, whole)


def test_too_few_pictures_are_no_failure(history, tmp_path: Path):
    opened = load_run(history.run, "cpu")
    settings = read_settings(history.run / "config.toml", None, [])
    told = evaluate_at_end(
        tmp_path, opened.base, settings, opened.character, opened.pairs, opened.scenes, {}, 100.0, 0.1, "", print
    )  # fmt: skip
    assert told == {"left_out": "the evaluation needs 3 training pictures"}


def test_a_judge_that_fails_costs_no_other_figure_and_goes_on_later(history, monkeypatch: pytest.MonkeyPatch):
    without_pauses(monkeypatch)

    def answer(system: str, asked: str) -> str:
        return '{"score": 3, "reason": "hm"}'

    command = ("eval", str(history.run), "-n", "1", "--quick", "--json", "--judge-model", "tiny")
    with served(answer, breaks_after=1) as url:
        port = int(url.split(":")[2].split("/")[0])
        failed = charforge(*command, "--judge-url", url)
    told = json.loads(failed.stdout)
    assert failed.returncode == 3 and "run the same command again" in failed.stderr
    assert "voice" in told["runs"][0]["metrics"] and "personality" not in told["runs"][0]["metrics"]
    assert "failed" in told["judge"]["Pip"] and (history.run / "evaluation.html").exists()
    with served(answer, port=port) as url:
        done = charforge(*command, "--judge-url", url)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    metrics, judge = told["runs"][0]["metrics"], told["judge"]["Pip"]
    assert metrics["memorization"]["value"] == metrics["personality"]["value"] == 0.5
    assert told["runs"][0]["before"]["personality"]["value"] == 0.5 and "failed" not in judge
    assert judge["tokens_in"] == 10 * judge["requests"] > 0
    assert "is the character, by the judge" in (history.run / "evaluation.md").read_text()


def test_running_it_again_repeats_what_failed_and_then_nothing(history):
    assert "failed_parts" not in history.third.metrics and not history.third.finished_before
    assert history.third.metrics["held_out_perplexity_on"] is not None
    assert "Second stage" in (history.run / "report.html").read_text()
    assert history.fourth.finished_before and history.fourth.metrics == history.third.metrics


def test_time_and_memory_are_of_all_sittings(history):
    sittings = json.loads((history.run / "sittings.json").read_text())
    assert len(sittings) == 3
    results = (history.first_metrics, history.second.metrics, history.third.metrics)
    first, second, third = (result["train_seconds"] for result in results)
    assert first < second < third <= sum(sitting["seconds"] for sitting in sittings) + 0.1
    assert history.third.metrics["peak_memory_gib"] >= max(s["peak_memory_gib"] for s in sittings[:2])


def test_runs_are_listed_with_state_stage_step_score_and_bundle(history):
    (line,) = list_runs(Path("runs"))
    assert asdict(line) == asdict(history.states[2])
    assert (line.state, line.stage, line.step, line.steps) == ("finished", "grpo", 1, 1)
    assert line.score == history.third.metrics["best_score"]
    assert line.scenes is not None and line.seconds > 0 and line.error is None
    with pytest.raises(InputError, match="no folder"):
        list_runs(Path("nowhere"))


def test_what_differs_is_named_with_old_and_new_value_and_both_ways_out(history, place):
    with pytest.raises(InputError) as refused:
        train(place, "sft.steps=9", "chat.top_p=0.5", out=history.run)
    assert "sft.steps is 2 there and 9 now" in str(refused.value)
    assert "chat.top_p is 0.9 there and 0.5 now" in str(refused.value)
    assert "grpo.learning_rate is 0.01 there and 0.0005 now" in str(refused.value)
    assert "new --out" in str(refused.value) and "--restart to begin this folder anew" in str(refused.value)
    done = train(place, "grpo.learning_rate=0.01", "memory.micro_batch=1", "sft.checkpoint_every=7", out=history.run)
    assert done.finished_before


def test_a_start_that_fails_before_training_leaves_nothing_in_its_own_way(place):
    with pytest.raises(InputError, match="nowhere"):
        train(place, out=Path("early"), base=str(place / "nowhere"))
    assert not Path("early").exists()


# the folder, without training


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Character:
    return read_character(make_folder(tmp_path_factory.mktemp("characters") / "pip"))


def begun(folder: Path, pip: Character, settings: Settings = Settings()) -> Path:  # noqa: B008
    """A run whose first checkpoint is there."""
    with open_run(folder, settings, inputs_of(pip)):
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.safetensors").write_bytes(b"weights")
    return folder


def test_changed_pictures_words_and_pairs_are_named(pip: Character, tmp_path: Path):
    folder = begun(tmp_path / "run", pip)
    inputs = inputs_of(pip)
    changed = {key: value for key, value in inputs.items() if key != "picture 03"}
    changed |= {"picture 05": "other", "the dialogues": "other", "the file of pairs": "new"}
    with pytest.raises(InputError) as refused:
        check_run(folder, Settings(), changed)
    for words in ("picture 03 is gone", "picture 05 has changed", "the dialogues has", "the file of pairs is new"):
        assert words in str(refused.value)
    check_run(folder, Settings(), inputs)


def test_settings_of_the_second_stage_decide_nothing_before_it_has_begun():
    known, now = Settings(), read_settings(preset_path("mini"), None, [])
    names = [line.split(" is ")[0] for line in setting_differences(known, now, second_stage_begun=False)]
    assert names and all(name.startswith(("sft.", "adapter.", "chat.")) for name in names)
    assert any("grpo.steps is 14 there and 10 now" in line for line in setting_differences(known, now, True))


def test_neutral_settings_are_no_part_of_what_a_run_is():
    names = deciding(Settings())
    everything = Settings().model_dump()
    dotted = {f"{group}.{key}" for group, value in everything.items() if isinstance(value, dict) for key in value}
    assert dotted - set(names) == {
        "sft.preview_every", "sft.checkpoint_every", "grpo.preview_every", "grpo.checkpoint_every",
        "grpo.micro_batch", "reward.on_cpu", "memory.micro_batch", "memory.checkpoint_layers", "memory.logits_chunk",
        "memory.park_encoders", "memory.compile_layers", "memory.cuda_graphs",
        "expand.requests_per_minute", "expand.price_in", "expand.price_out",
        "tracking.tracker", "tracking.project", "evaluation.share",
    }  # fmt: skip
    # which checkpoint is kept hangs on when it is measured
    assert {"sft.evaluate_every", "grpo.evaluate_every", "grpo.held_out_pictures", "memory.optimizer"} <= set(names)


def test_one_process_at_a_time_works_in_a_run_and_the_message_says_which(pip: Character, tmp_path: Path):
    folder = begun(tmp_path / "run", pip)
    with open_run(folder, Settings(), inputs_of(pip)):
        assert is_held(folder) and run_line(folder).state == "running"
        with pytest.raises(MachineError, match=r"process \d+ on .* works in"), working_in(folder):
            pytest.fail("two at a time")
        with pytest.raises(MachineError, match="works in"):
            set_aside(folder)
    assert not is_held(folder) and run_line(folder).state == "interrupted"


def test_restart_keeps_the_old_run_aside_and_touches_nothing_but_runs(pip: Character, tmp_path: Path):
    folder = begun(tmp_path / "run", pip)
    assert set_aside(folder) == tmp_path / f"run{ASIDE}1"
    assert (tmp_path / f"run{ASIDE}1" / "checkpoints" / "last.safetensors").exists() and not folder.exists()
    begun(folder, pip)
    assert set_aside(folder) == tmp_path / f"run{ASIDE}2"
    assert set_aside(folder) is None
    holiday = tmp_path / "holiday"
    holiday.mkdir()
    (holiday / "beach.png").write_bytes(b"sun")
    with pytest.raises(InputError, match="no run of charforge"):
        set_aside(holiday)
    with pytest.raises(InputError, match="no run of charforge"):
        check_run(holiday, Settings(), inputs_of(pip))
    assert (holiday / "beach.png").exists()


def test_the_unfinished_run_is_found_before_the_finished_and_what_was_set_aside_is_not(pip: Character, tmp_path: Path):
    def found(both: bool = True) -> str:
        return find_run(tmp_path, pip, Settings(), inputs_of(pip), both).name

    def ended(folder: Path, stage: str) -> None:
        (folder / "result.json").write_text(json.dumps({"stage": stage}))
        (folder / "pip.charx").write_bytes(b"")

    assert found().endswith("-1") and found().startswith("pip-")
    begun(tmp_path / f"pip-a{ASIDE}1", pip)
    begun(tmp_path / "pip-other", pip, Settings(seed=9))
    assert found().endswith("-1")
    ended(begun(tmp_path / "pip-a", pip), "sft")
    ended(begun(tmp_path / "pip-b", pip), "grpo")
    assert found() == "pip-a"
    begun(tmp_path / "pip-c", pip)
    assert found(both=False) == "pip-c"
    ended(tmp_path / "pip-c", "grpo")
    ended(tmp_path / "pip-a", "grpo")
    assert found() in ("pip-a", "pip-b", "pip-c")


def test_what_a_kill_leaves_behind_is_cleared_away(pip: Character, tmp_path: Path):
    folder = begun(tmp_path / "run", pip)
    (folder / "checkpoints" / ".last.safetensors.abc.tmp").write_bytes(b"half")
    (folder / "metrics.jsonl").write_text('{"kind": "note", "text": "whole"}\n{"kind": "st')
    assert run_line(folder).step == 0
    with open_run(folder, Settings(), inputs_of(pip)):
        assert not list(folder.rglob("*.tmp"))
        assert (folder / "metrics.jsonl").read_text() == '{"kind": "note", "text": "whole"}\n'


def test_an_early_failure_removes_the_folder_a_late_one_does_not(pip: Character, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new", tmp_path / "empty"):
        existed = folder.exists()
        with pytest.raises(RuntimeError), open_run(folder, Settings(), inputs_of(pip)):
            raise RuntimeError
        assert folder.exists() == existed and not (existed and any(folder.iterdir()))
    folder = begun(tmp_path / "late", pip)
    with pytest.raises(RuntimeError), open_run(folder, Settings(), inputs_of(pip)):
        raise RuntimeError
    assert (folder / "checkpoints" / "last.safetensors").exists()


def test_a_run_of_an_earlier_version_is_named_as_such(pip: Character, tmp_path: Path):
    folder = begun(tmp_path / "run", pip)
    (folder / "identity.json").rename(folder / "identity.txt")
    with pytest.raises(InputError, match="earlier charforge"):
        check_run(folder, Settings(), inputs_of(pip))
    assert set_aside(folder) is not None


def test_sittings_add_up_and_survive_a_kill(tmp_path: Path):
    file = tmp_path / "sittings.json"
    file.write_text(json.dumps([{"began": "then", "seconds": 100.0, "peak_memory_gib": 3.8}]))
    sittings = Sittings(file, lambda: 1.3)
    sittings.keep()
    # killed here: nothing says goodbye
    with Sittings(file, lambda: 1.5) as later:
        assert later.seconds >= 100.0 and later.peak_memory_gib == 3.8
    assert [sitting["peak_memory_gib"] for sitting in json.loads(file.read_text())] == [3.8, 1.3, 1.5]
    file.write_text("[{")
    with pytest.raises(InputError, match=r"sittings.json is damaged .* delete it"):
        Sittings(file, lambda: 1.0)


def test_a_full_disk_is_a_sentence_and_any_other_error_is_itself(history, tmp_path: Path):
    words = r"the disk is full \(x\): make room. What was saved before stands. Go on so"
    with pytest.raises(MachineError, match=words), full_disk_in_words("Go on so", history.run):
        raise OSError(errno.ENOSPC, "No space left on device", "x")
    words = r"the disk is full \(x\): make room. Nothing was trained yet: begin it again.$"
    with pytest.raises(MachineError, match=words), full_disk_in_words("Go on so", tmp_path / "gone"):
        raise OSError(errno.ENOSPC, "No space left on device", "x")
    with pytest.raises(PermissionError), full_disk_in_words("Go on so", tmp_path):
        raise PermissionError(errno.EACCES, "denied", "x")


def test_a_bundle_whose_picture_could_not_be_drawn_has_the_initial(pip: Character):
    avatar = plain_avatar(pip)
    assert avatar.size == (128, 128) and len(avatar.getcolors(1 << 16)) > 1


def test_a_run_stays_with_the_weights_that_it_began_on(history, place: Path):
    (weights,) = (place / "base").glob("ema*.safetensors")
    kept, record = weights.read_bytes(), history.run / "base.json"
    told = record.read_text("utf-8")
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        with pytest.raises(InputError, match=r"other weights .*--restart"):
            train(place, "grpo.learning_rate=0.01")
        refused = charforge("eval", str(history.run))
        assert refused.returncode == 1 and "other weights" in refused.stderr and "--restart" in refused.stderr
        # a run of an earlier charforge has no record of its own: its bundle says it
        record.unlink()
        with pytest.raises(InputError, match="other weights"):
            check_base(history.run, str(place / "base"))
        record.write_text("{}", "utf-8")
        with pytest.raises(InputError, match=r"base.json is damaged .*delete the file: .*charforge train --restart"):
            check_base(history.run, str(place / "base"))
    finally:
        weights.write_bytes(kept)
        record.write_text(told, "utf-8")
    check_base(history.run, str(place / "base"))


@pytest.mark.parametrize("damage", ["", "{", "null", "[]", '{"content_hash": 5}', "\ufeff{}"])
def test_a_damaged_record_of_the_base_costs_no_run(history, place: Path, damage: str):
    record = history.run / "base.json"
    told = record.read_text("utf-8")
    record.write_text(damage, "utf-8")
    try:
        for said in (
            charforge("eval", str(history.run)).stderr,
            charforge("train", "pip", *same(place, history)).stderr,
        ):
            assert "base.json is damaged" in said and "delete the file: the run is whole without it" in said
            assert "`charforge train --restart`" in said
        record.unlink()
        assert train(place, "grpo.learning_rate=0.01").finished_before
    finally:
        record.write_text(told, "utf-8")


def same(place: Path, history: SimpleNamespace) -> list[str]:
    """The options of the history's last call, naming its folder."""
    changes = [f"{key}={value}" for key, value in BRIEF.items()] + ["grpo.learning_rate=0.01"]
    chosen = ["--preset", "mini", "--base", str(place / "base"), "--out", str(history.run)]
    return [*chosen, *(part for change in changes for part in ("--set", change))]


@pytest.mark.parametrize(
    ("write", "why"),
    [
        ("[grpo]\nnft_times = 2\n", "there is no setting grpo.nft_times"),
        ("[gone]\nx = 1\n", "there is no setting gone"),
        ('[sft]\nsteps = "many"\n', "setting sft.steps: "),
        ("[sft\n", "is not valid TOML"),
    ],
)
def test_a_run_whose_settings_cannot_be_read_says_so_the_same_way_everywhere(
    history, place: Path, write: str, why: str
):
    config = history.run / "config.toml"
    told = config.read_text("utf-8")
    config.write_text(write, "utf-8")
    try:
        calls = (["eval", str(history.run)], ["train", "pip", *same(place, history)], ["runs"], ["watch"])
        for said in (charforge(*call).stderr for call in calls):
            assert str(config) in said and why in said and "`charforge train --restart`" in said
            assert "`charforge settings`" not in said and "something else" not in said
            if "TOML" not in why:
                assert "of another version of charforge" in said
    finally:
        config.write_text(told, "utf-8")


def test_other_damaged_files_of_a_run_name_a_remedy_that_works(history, place: Path):
    kept = {name: (history.run / name).read_bytes() for name in ("sittings.json", "result.json", "metrics.jsonl")}
    try:
        for name, content in kept.items():
            (history.run / name).write_bytes(content[:-5] + b"\n")
            said = charforge("runs").stderr
            assert name in said and "is damaged" in said and "delete" in said and "fault" not in said, name
            (history.run / name).write_bytes(content)
        (history.run / "result.json").unlink()
        assert train(place, "grpo.learning_rate=0.01").metrics["stage"] == "grpo"
    finally:
        (history.run / "result.json").write_bytes(kept["result.json"])
