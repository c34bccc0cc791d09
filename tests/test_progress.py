"""What people see while they wait, on a terminal and elsewhere. The clock is the test's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from charforge import progress
from charforge.progress import Bar, Lines, byte_progress, counting, display, duration, gigabytes, things, waiting
from charforge.run.progress import Progress
from charforge.train.sft import StepLog


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def lines_on(clock: Clock, **options: float) -> tuple[Lines, list[str]]:
    written: list[str] = []
    return Lines(written.append, things, now=clock, **options), written


def test_a_line_for_each_part_and_one_every_thirty_seconds():
    clock = Clock()
    lines, written = lines_on(clock)
    lines.begin("first stage", 70)
    lines.update(1, text="text 3.20")
    for step in range(2, 15):
        clock.seconds += 5.0
        lines.update(step, text=f"text {4 - step / 10:.2f}")
    lines.begin("measuring")
    assert written == [
        "first stage",
        "first stage: 7 of 70, text 3.30, 5 min left",
        "first stage: 13 of 70, text 2.70, 5 min left",
        "measuring",
    ]


def test_a_step_of_minutes_shows_life_too():
    clock = Clock()
    lines, written = lines_on(clock)
    lines.begin("first stage", 70)
    for _ in range(70):
        clock.seconds += 1.0
        lines.tick()
    assert written == ["first stage", "first stage: 30 s so far", "first stage: 60 s so far"]
    lines.stop()
    clock.seconds += 100.0
    lines.tick()
    assert len(written) == 3


def test_time_left_is_judged_by_what_was_done_here():
    clock = Clock()
    lines, written = lines_on(clock)
    lines.begin("first stage", 100)
    lines.update(51)  # fifty of them by an earlier sitting
    clock.seconds += 60.0
    lines.update(61)
    assert written[-1] == "first stage: 61 of 100, 4 min left"


def test_what_ends_at_once_says_nothing():
    clock = Clock()
    lines, written = lines_on(clock, silent_for=2.0)
    lines.begin("opening wren.charx")
    clock.seconds += 1.9
    lines.tick()
    assert written == []
    clock.seconds += 0.1
    lines.tick()
    assert written == ["opening wren.charx"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (9000, "2.5 h")]
)
def test_durations_in_words(seconds: float, words: str):
    assert duration(seconds) == words


def test_counts_in_words():
    assert (things(3, None), things(3, 2000)) == ("3", "3 of 2,000")
    assert (gigabytes(1_250_000_000, None), gigabytes(0, 30_000_000_000)) == ("1.25 GB", "0.00 of 30.00 GB")


@pytest.mark.parametrize(
    ("level", "environment", "kind"),
    [
        ("normal", {}, "Lines"),
        ("verbose", {}, "Lines"),
        ("quiet", {}, "Silence"),
        ("normal", {"FORCE_COLOR": "1"}, "Bar"),
    ],
)
def test_the_display_fits_the_command_and_the_terminal(
    monkeypatch: pytest.MonkeyPatch, level: progress.Verbosity, environment: dict[str, str], kind: str
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)  # rich then takes stderr for a terminal
    token = progress.verbosity.set(level)
    try:
        with display() as shown:
            assert type(shown).__name__ == kind
    finally:
        progress.verbosity.reset(token)


def test_without_a_terminal_plain_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]):
    with counting("writing") as report:
        report(1, 2)
        report(2, 2)
    with waiting("a moment"):
        pass
    with byte_progress("loading x", now=iter([0.0, 1.0, 3.0]).__next__) as report:
        report(1, 2)
        report(2, 2)
    assert capsys.readouterr() == ("", "writing\nloading x\n")


def test_a_pipe_that_nobody_reads_ends_nothing(tmp_path: Path):
    """As `charforge train DIR 2>&1 | head -1` would have it."""
    code = (
        "import os, sys\n"
        "reading, writing = os.pipe(); os.close(reading); os.dup2(writing, 2)\n"
        "from charforge.progress import write_line\n"
        "write_line('first stage'); write_line('second stage')\n"
        "print('went on', flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert done.stdout == "went on\n"


def test_a_bar_inside_a_bar_and_a_part_without_a_count(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with display(transient=False) as outer:
        assert isinstance(outer, Bar)
        outer.begin("drawing scenes", 10)
        with counting("loading mini") as report:
            report(3, 5)
        # a part without a count does not show the one before
        outer.begin("measuring", None)
        assert [(task.description, task.total) for task in outer._bar.tasks] == [("measuring", None)]
        outer.note("a [bold]name[/bold] as it is")
    out, err = capsys.readouterr()
    assert out == "" and "measuring" in err and "[bold]name[/bold]" in err


def test_a_run_without_a_terminal_tells_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with Progress(tmp_path) as shown:
        shown.begin("encoding pictures", 70)
        shown.hooks(lambda step: None).on_step(StepLog(1, 3.0, 0.7, 1.0, 0.1, 4.6))
        shown.note("half as many samples at a time")
    assert capsys.readouterr().err.splitlines() == [
        "encoding pictures", "first stage", "half as many samples at a time",
    ]  # fmt: skip
    assert len((tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()) == 2
