"""What a folder of runs holds: of each run its state, how far it is, how well it does, and its bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from charforge.errors import InputError
from charforge.run.folder import CONFIG, EARLIER_IDENTITY, FAILURE, IDENTITY, TRAINING, is_held, read_json, read_result
from charforge.run.forecast import Forecast, outlook
from charforge.run.metrics import read_metrics, seconds_left
from charforge.settings import Settings, settings_of_run

State = Literal["running", "interrupted", "failed", "first stage done", "finished"]


@dataclass(frozen=True)
class RunLine:
    """One run. ``step`` of ``steps`` counts the steps of the stage sft, the iterations of the stage grpo.

    ``score`` is the best held-out score of the first stage, relative to the untrained adapter: lower is better.
    ``scenes`` is how well drawings show held-out scenes at the second stage's best iteration, by judges that are no
    part of the reward: higher is better. None: not measured yet, not known.
    ``seconds_left`` is about how long the steps of the stage still take, while it runs. ``forecast`` is the score that
    more steps of the first stage would end with, ``by_heart`` whether it has begun to learn its examples by heart.
    ``error``: the last failure, or why this version cannot read the run's settings.
    """

    run: str
    state: State
    stage: Literal["sft", "grpo"]
    step: int
    steps: int | None
    score: float | None
    scenes: float | None
    bundle: str | None
    seconds: float
    peak_memory_gib: float | None
    error: str | None
    seconds_left: float | None
    forecast: Forecast | None
    by_heart: bool


def list_runs(folder: Path) -> list[RunLine]:
    """The runs in ``folder``, or the one that it is itself, the latest last. Raises InputError without a folder."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: name the folder that holds your runs")
    found = [folder] if _looks_like_run(folder) else [path for path in folder.iterdir() if _looks_like_run(path)]
    return [run_line(run) for run in sorted(found, key=lambda run: ((run / CONFIG).stat().st_mtime, run.name))]


def _looks_like_run(path: Path) -> bool:
    return (path / CONFIG).is_file() and any((path / name).is_file() for name in (IDENTITY, EARLIER_IDENTITY))


def run_line(run: Path) -> RunLine:
    """What the files of ``run`` tell of it."""
    result, lines = read_result(run), read_metrics(run)
    settings: Settings | None = None
    unreadable = None
    try:
        settings = settings_of_run(run / CONFIG)
    except InputError as error:
        # of another version: what else is known of the run is listed all the same
        unreadable = str(error)
    failure = read_json(run / FAILURE) if (run / FAILURE).exists() else None
    # any other failure cost a part of the measuring or reporting, not the training
    failed = failure is not None and failure["part"] == TRAINING
    begun = failed or any(line["kind"] == "scenes" for line in lines)
    stage: Literal["sft", "grpo"] = "grpo" if result is not None and (begun or result["stage"] == "grpo") else "sft"
    counted = [line["iteration"] for line in lines if line["kind"] == "grpo"]
    if stage == "sft":
        counted = [line["step"] for line in lines if line["kind"] == "step"]
    scores = [line["score"] for line in lines if line["kind"] == "held_out" and line["best"]]
    scenes = [line["gold"] for line in lines if line["kind"] == "scenes" and line["best"]]
    sittings = read_json(run / "sittings.json") if (run / "sittings.json").exists() else []
    bundles = sorted(run.glob("*.charx"))
    steps = None
    if settings is not None:
        steps = settings.sft.steps if stage == "sft" else settings.grpo.iterations
    state = _state(run, stage, result, failed)
    ahead = outlook(lines, settings.sft) if settings is not None else None
    return RunLine(
        run=str(run),
        state=state,
        stage=stage,
        step=counted[-1] if counted else 0,
        steps=steps,
        score=scores[-1] if scores else None,
        scenes=scenes[-1] if scenes else None,
        bundle=str(bundles[0]) if bundles else None,
        seconds=sum(sitting["seconds"] for sitting in sittings),
        peak_memory_gib=max((sitting["peak_memory_gib"] for sitting in sittings), default=None),
        error=failure["error"] if failure is not None else unreadable,
        seconds_left=seconds_left(lines, "step" if stage == "sft" else "grpo", steps) if state == "running" else None,
        forecast=ahead.forecast if ahead is not None else None,
        by_heart=ahead is not None and ahead.by_heart,
    )


def _state(run: Path, stage: str, result: dict[str, Any] | None, failed: bool) -> State:
    if is_held(run):
        return "running"
    if result is not None and result["stage"] == stage:
        return "finished" if stage == "grpo" else "first stage done"
    return "failed" if failed else "interrupted"
