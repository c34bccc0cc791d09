"""A run that is watched: the page while it runs, the lines and the table, trackers; none of it may end a run."""

from __future__ import annotations

import io
import json
import re
import sys
import types
from html.parser import HTMLParser
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from command import charforge
from folders import make_folder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from charforge.character import read_character
from charforge.cli.output import runs_table
from charforge.cli.tables import fold
from charforge.cli.watch import watch_line, watch_table
from charforge.errors import Interrupted, MachineError
from charforge.run.charts import HEIGHT, WIDTH, Curve, draw_chart
from charforge.run.folder import open_run
from charforge.run.lease import NAME, holding
from charforge.run.listing import run_line
from charforge.run.live import PAUSE, SHARE, LivePage
from charforge.run.metrics import read_metrics, seconds_left
from charforge.run.report import About, about, held_out_in_words, likeness, wilson, write_report
from charforge.run.share import share_sheet
from charforge.run.tracking import Tracking, check_tracker, figures
from charforge.settings import Settings, SftSettings
from charforge.settings.sections import TrackingSettings

SETTINGS = Settings(sft=SftSettings(steps=40, study_share=0.25))


def step(number: int) -> dict[str, object]:
    return {"kind": "step", "step": number, "ce": 3 / number, "mse": 1 / number, "seconds": 2.0}


def held_out(number: int, score: float | None, best: bool) -> dict[str, object]:
    return {"kind": "held_out", "step": number, "ce": 2.0, "mse": None, "score": score, "best": best}


def write_lines(run: Path, *lines: dict[str, object]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> About:
    pip = read_character(make_folder(tmp_path_factory.mktemp("told") / "pip"))
    return about(pip, SETTINGS, ["Pip, <smiling>", "Pip, in space"], "charforge train pip --out 'my run'")


class Tags(HTMLParser):
    """How often each tag opens and closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.depth: dict[str, int] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.depth[tag] = self.depth.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        self.depth[tag] = self.depth.get(tag, 0) - 1


def live_page(run: Path, told: About, now: list[float], said: list[str]) -> LivePage:
    return LivePage(run, lambda: told, said.append, now=lambda: now[0])


def test_the_page_is_there_from_the_first_step_and_tells_how_the_run_stands(tmp_path: Path, told: About):
    now, said = [0.0], []
    with live_page(tmp_path, told, now, said) as live:
        write_lines(tmp_path, held_out(0, 1.0, True), step(1))
        live.keep()
        first = (tmp_path / "report.html").read_text("utf-8")
        assert "first stage, step 1 of 40" in first and "78 s left of this stage" in first
        assert 'http-equiv="refresh"' in first and "charforge train pip --out &#39;my run&#39;" in first
        assert first.count("data:image/jpeg") == 10 and "wearing a blue scarf" in first
        write_lines(tmp_path, step(2))
        live.keep()
        assert (tmp_path / "report.html").read_text("utf-8") == first
        now[0] += PAUSE + 1
        (tmp_path / "previews").mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / "previews" / "00002.png")
        live.keep()
        second = (tmp_path / "report.html").read_text("utf-8")
    assert "first stage, step 2 of 40" in second
    assert 'src="previews/00002.png?' in second and "Pip, &lt;smiling&gt;" in second
    assert "The first 10 steps, shaded" in second and second.count("<polyline") == 3
    # what never closes by itself is left out
    depth = Tags(second).depth
    assert {tag for tag, open_ in depth.items() if open_} <= {"meta", "img", "rect", "line", "polyline", "circle"}
    assert said == []


def test_writing_it_takes_a_hundredth_of_the_time_at_most(tmp_path: Path, told: About):
    now = [0.0]

    def slow() -> About:
        now[0] += 3.0
        return told

    live = LivePage(tmp_path, slow, print, now=lambda: now[0])
    write_lines(tmp_path, step(1))
    live.keep()
    before = (tmp_path / "report.html").stat().st_mtime_ns
    now[0] += 3.0 / SHARE - 1
    live.keep()
    assert (tmp_path / "report.html").stat().st_mtime_ns == before
    now[0] += 2
    live.keep()
    assert (tmp_path / "report.html").stat().st_mtime_ns != before


@pytest.mark.parametrize(
    "error, words", [(Interrupted("x"), "interrupted"), (MachineError("no room"), "failed: no ro")]
)
def test_how_it_ended_early_is_on_the_page(tmp_path: Path, told: About, error: BaseException, words: str):
    with pytest.raises(type(error)), live_page(tmp_path, told, [0.0], []) as live:
        write_lines(tmp_path, step(1))
        live.keep()
        raise error
    html = (tmp_path / "report.html").read_text("utf-8")
    assert words in html and 'http-equiv="refresh"' not in html


def test_a_page_that_cannot_be_written_ends_no_run_and_is_told_of_once(tmp_path: Path, told: About):
    (tmp_path / "report.html").mkdir()
    now, said = [0.0], []
    with live_page(tmp_path, told, now, said) as live:
        for number in (1, 2):
            write_lines(tmp_path, step(number))
            live.keep()
            now[0] += 1000
    assert len(said) == 1 and "training goes on" in said[0]


def test_the_last_page_can_be_taken_anywhere(tmp_path: Path, told: About):
    write_lines(tmp_path, held_out(0, 1.0, True), step(1), held_out(1, 0.5, True))
    (tmp_path / "previews").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "previews" / "00001.png")
    metrics = {"stage": "sft", "train_seconds": 60.0, "best_step": 1}
    write_report(tmp_path, told, metrics, measured=False)
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "first stage done" in html and 'http-equiv="refresh"' not in html and "Measuring failed" in html
    assert not re.search(r'src="(?!data:)', html)
    assert (tmp_path / "curves.png").exists()


def test_learning_by_heart_is_named():
    settings = SftSettings(steps=50)
    falling = [held_out(n, 1 - n / 100, True) for n in (0, 10, 20)]
    told, warning = held_out_in_words(falling, settings)
    assert warning == "" and "step 20" in told and "A run of" not in told
    rising = [*falling, *(held_out(n, 0.9, False) for n in (30, 40, 50))]
    told, warning = held_out_in_words(rising, settings)
    assert "Kept is step 20" in told and "in all 3 measurements since step 20" in warning
    assert held_out_in_words(rising[:-1], settings)[1] == ""
    assert held_out_in_words([held_out(0, None, True)] * 3, settings) == ("", "")
    assert held_out_in_words([held_out(0, 1.0, True)], settings) == ("", "")


def test_likeness_and_copies_come_with_their_ranges():
    line = {
        "kind": "scenes", "iteration": 0, "identity": 0.8, "identity_deviation": 0.1, "copy_rate": 0.0, "pictures": 16,
        "best": True,
    }  # fmt: skip
    found = likeness([line])
    assert found["pictures"] == 16 and found["rows"][0][1] == "0.800 (0.751 to 0.849)"
    assert found["rows"][1][1] == "0 % (0 to 19 %)"
    assert likeness([]) is None and likeness([{key: line[key] for key in ("iteration", "identity", "best")}]) is None


@given(st.integers(1, 500), st.floats(0, 1))
def test_the_range_of_a_share_holds_it_and_narrows_with_more_trials(count: int, share: float):
    low, high = wilson(share, count)
    assert 0 <= low <= share + 1e-9 and share - 1e-9 <= high <= 1
    assert high - low >= wilson(share, 4 * count)[1] - wilson(share, 4 * count)[0]


POINTS = st.lists(st.tuples(st.integers(0, 9999), st.none() | st.floats(-1e6, 1e6)), max_size=40)


@given(POINTS, st.floats(0, 500))
def test_a_chart_of_any_points_stays_inside_its_picture(points: list[tuple[int, float | None]], shaded: float):
    chart = draw_chart("loss", "steps", [Curve("a", sorted(points, key=lambda point: point[0]), "train")], shaded)
    if all(y is None for _, y in points):
        assert chart is None
        return
    for x, y in (pair.split(",") for _, _, drawn in chart.lines for pair in drawn.split()):
        assert 0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT
    assert 0 <= chart.shaded <= WIDTH


def test_a_long_curve_is_thinned_and_keeps_its_end():
    chart = draw_chart("loss", "steps", [Curve("a", [(n, 1.0 + n % 2) for n in range(5001)], "train")])
    assert len(chart.lines[0][2].split()) <= 300 and chart.x_ticks[-1][1] == "5000"


def test_the_sheet_to_share_has_room_for_every_prompt():
    drawn = [Image.new("RGB", (64, 64), (200, 30, 30))] * 3
    sheet = share_sheet("Wren", "mini", ["short", "a prompt of many words " * 4, "third"], drawn, drawn)
    assert sheet.getpixel((20, 120)) == (200, 30, 30) and sheet.width == 12 + 3 * 268
    assert len(sheet.crop((0, sheet.height - 80, sheet.width, sheet.height)).getcolors(1 << 16)) > 2


# lines and tables


def watched(run: Path) -> Path:
    with open_run(run, SETTINGS, {}):
        write_lines(run, held_out(0, 1.0, True), *(step(number) for number in (1, 2, 3)))
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "last.safetensors").write_bytes(b"")
    return run


def test_a_run_in_one_line(tmp_path: Path):
    run = watched(tmp_path / "a\x1b[31m")
    line = watch_line(run_line(run))
    assert line.endswith(": interrupted, sft 3 of 40, held-out 1.000, 0 s so far") and "\x1b" not in line
    with holding(run / NAME):
        assert watch_line(run_line(run)).endswith(
            "running, sft 3 of 40, held-out 1.000, 0 s so far, 74 s left of this stage"
        )
        assert watch_table([run_line(run)], 80).renderables[0].row_count == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("path", "width", "lines"),
    [
        ("runs/wren", 9, ["runs/wren"]), ("runs/wren", 8, ["runs/", "wren"]), ("runs/wren/", 5, ["runs/", "wren/"]),
        ("/data/a/b/wren", 8, ["/data/a/", "b/wren"]), ("C:\\runs\\wren", 8, ["C:\\runs\\", "wren"]),
        ("abcdefgh/x", 4, ["abcd", "efgh", "/x"]), ("灯台/猫", 5, ["灯台/", "猫"]), ("", 5, [""]), ("/", 1, ["/"]),
    ],
)  # fmt: skip
def test_a_path_is_folded_where_a_folder_ends(path: str, width: int, lines: list[str]):
    assert fold(path, width) == lines


@pytest.mark.parametrize("width", [200, 100, 80, 60, 42])
def test_no_word_of_a_table_of_runs_is_split_and_the_run_is_always_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    short, long = Path("wren"), Path("folder-of-somebody/with-runs/in-it/and-deeper/wren-20261123-1")
    lines = [run_line(watched(run)) for run in (short, long)]
    for shown in (watch_table(lines, width), runs_table([vars(line) for line in lines], width)[0]):
        console = Console(file=io.StringIO(), width=width)
        console.print(shown)
        told = console.file.getvalue()  # type: ignore[attr-defined]
        assert max(map(len, told.splitlines())) <= width
        cells = [cell.strip() for line in told.splitlines() for cell in re.split("[│┃]", line)]
        assert cells.count("interrupted") == 2 and "run" in cells and "state" in cells
        assert "".join(line.split("│")[1].strip() for line in told.splitlines()[3:-1]) == f"{short}{long}"
        assert ("step" in cells) == (width > 50)


def test_the_command_ends_when_nothing_runs(tmp_path: Path):
    watched(tmp_path / "runs" / "a")
    watched(tmp_path / "b")
    done = charforge("watch", "runs", "b", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == ""
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["runs/a", "b"]
    nowhere = charforge("watch", "nowhere", cwd=tmp_path)
    assert nowhere.returncode == 1 and "there is no folder nowhere" in nowhere.stderr


def test_the_time_left_is_that_of_the_last_steps(tmp_path: Path):
    write_lines(
        tmp_path, *(step(number) | {"seconds": 100.0} for number in range(1, 4)), *(step(n) for n in range(4, 30))
    )
    lines = read_metrics(tmp_path)
    assert seconds_left(lines, "step", 40) == 22.0 and seconds_left(lines, "step", 10) == 0.0
    assert seconds_left(lines, "grpo", 5) is None and seconds_left(lines, "step", None) is None


# trackers


def test_none_is_the_default_and_starts_nothing(tmp_path: Path):
    assert Settings().tracking.tracker == "none"
    before = set(sys.modules)
    with Tracking(tmp_path, Settings(), pytest.fail) as tracking:
        tracking.log(step(1))
    assert not {name for name in set(sys.modules) - before if name.startswith(("wandb", "tensorboard", "trackio"))}
    assert not list(tmp_path.iterdir())


def asked(tracker: str) -> Settings:
    return Settings(tracking=TrackingSettings(tracker=tracker))


def test_a_missing_library_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_tracker(Settings())
    with pytest.raises(MachineError, match=r"pip install trackio"):
        check_tracker(asked("trackio"))


def test_figures_have_names_and_numbers_alone():
    line = {"kind": "grpo", "iteration": 3, "parts": {"scene": 0.5}, "best": True, "text": "no", "mse": None}
    assert figures(line, "second") == {"second/iteration": 3.0, "second/parts/scene": 0.5}


def test_a_tracker_that_fails_is_left_alone_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    logged: list[tuple[dict[str, float], int]] = []

    def log(values: dict[str, float], step: int) -> None:
        logged.append((values, step))
        if len(logged) == 2:
            raise ConnectionError("the service is away")

    run = types.SimpleNamespace(log=log, finish=lambda: pytest.fail("left alone"), config={})
    library = types.ModuleType("trackio")
    library.__spec__ = ModuleSpec("trackio", None)
    library.init, library.config, library.log = (
        lambda **_: run,
        types.SimpleNamespace(update=lambda *_, **__: None),
        log,
    )
    library.finish = run.finish
    monkeypatch.setitem(sys.modules, "trackio", library)
    said: list[str] = []
    with Tracking(tmp_path, asked("trackio"), said.append) as tracking:
        for number in (1, 2, 3):
            tracking.log(step(number))
    assert [number for _, number in logged] == [1, 2] and logged[0][0]["first/ce"] == 3.0
    assert len(said) == 1 and "the service is away" in said[0] and "goes on without it" in said[0]


def test_tensorboard_writes_into_the_run(tmp_path: Path):
    pytest.importorskip("tensorboard")
    with Tracking(tmp_path, asked("tensorboard"), pytest.fail) as tracking:
        tracking.log(step(1))
    assert list((tmp_path / "tensorboard" / tmp_path.name).glob("*tfevents*"))
