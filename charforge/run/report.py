"""``report.html``: how a run stands and what it has learned, in one page; written from the first step on."""

from __future__ import annotations

import base64
import io
import json
import math
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment

from charforge import __version__
from charforge.character import Character, load_picture
from charforge.character import Picture as CharacterPicture
from charforge.files import write_atomic
from charforge.progress import duration
from charforge.run.charts import Chart, Curve, draw_chart
from charforge.run.curves import loss_curves, reward_curves
from charforge.run.forecast import outlook
from charforge.run.metrics import Line, of_kind, read_metrics, seconds_left
from charforge.settings import Settings, SftSettings

TEMPLATE = (Path(__file__).parent / "report.html").read_text("utf-8")
SHARED = "share.png"
THUMBNAIL = 160
LINKS = (
    ("pairs/pairs.html", "the training pairs to look through"), ("pairs/pairs.jsonl", "the same as JSON Lines"),
    ("config.toml", "all settings"), ("metrics.jsonl", "all figures"), ("result.json", "the result"),
    ("evaluation.html", "the evaluation"), ("evaluation.png", "drawings of held-out scenes"),
)  # fmt: skip
CERTAIN = 1.96
"""Standard errors to either side that hold the true value 95 times of 100."""


COMPARED = (
    ("held-out dialogues: perplexity", "held_out_perplexity_off", "held_out_perplexity_on", "lower"),
    ("asked for a picture: how much of what was asked is in the reply's plan", "held_out_requests_off", "held_out_requests_on", "higher"),
    ("held-out picture: flow error", "held_out_image_loss_off", "held_out_image_loss_on", "lower"),
    ("second stage, new scenes: what questions that the reward never asks see of them", "scenes_gold_before", "scenes_gold_after", "higher"),
    ("second stage, new scenes: what the reward's own questions see", "scenes_proxy_before", "scenes_proxy_after", "higher"),
    ("second stage, new scenes: likeness to an encoder that the reward does not use", "scenes_gold_identity_before", "scenes_gold_identity_after", "higher"),
    ("second stage, new scenes: likeness to the reward's encoder", "scenes_identity_before", "scenes_identity_after", "higher"),
    ("second stage, new scenes: share of copies of training pictures", "scenes_copy_rate_before", "scenes_copy_rate_after", "lower"),
)  # fmt: skip
"""What the report compares: in words, the two metrics, which direction is better."""


def compared(metrics: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The rows of the report's table that a run has figures for."""
    return [
        (what, f"{metrics[before]:.3f}", f"{metrics[after]:.3f}", better)
        for what, before, after, better in COMPARED
        if metrics.get(before) is not None and metrics.get(after) is not None
    ]


def facts(metrics: dict[str, Any]) -> list[str]:
    """What else is to be known of a run, in words."""
    told = [f"trained in {metrics['train_seconds'] / 60:.1f} minutes"]
    if metrics.get("peak_memory_gib") is not None:
        told.append(f"memory at most {metrics['peak_memory_gib']:.1f} GiB")
    told.append(f"kept step {metrics['best_step']} of the first stage")
    if "grpo_iterations" in metrics:
        ended, kept = metrics["grpo_ended"], metrics["grpo_best"]
        number = metrics["grpo_iterations"]
        told.append(f"second stage: {number} iteration{'' if number == 1 else 's'}, kept number {kept}, ended: {ended}")
    return told


@dataclass(frozen=True)
class About:
    """What a page tells of a run that does not change: who it is, the inputs as thumbnails, the command."""

    character: Character
    settings: Settings
    prompts: Sequence[str]
    inputs: Sequence[tuple[str, str, str]]
    """(name, caption, picture as a data URL)."""
    command: str


@dataclass(frozen=True)
class State:
    """How a run stands: in words, ``done`` of ``total`` steps of its stage, how long it may still take, and after how
    many seconds the page loads itself again (0: never)."""

    words: str
    done: int = 0
    total: int = 0
    left: str = ""
    refresh: int = 0
    measuring_failed: bool = False


def about(character: Character, settings: Settings, prompts: Sequence[str], command: str) -> About:
    """With the pictures made small, which takes a moment."""
    return About(character, settings, prompts, [_thumbnail(picture) for picture in character.pictures], command)


def write_report(
    run: Path, told_of: About, metrics: dict[str, Any], measured: bool = True, state: State | None = None
) -> None:
    """Write ``curves.png``, ``reward_curves.png`` after a second stage, and ``report.html`` into the run folder.

    Without ``measured`` the pictures and replies that lie there are of an earlier stage, and are left out.
    """
    lines = read_metrics(run)
    write_atomic(run / "curves.png", loss_curves(lines))
    if second := reward_curves(lines):
        write_atomic(run / "reward_curves.png", second)
    words = "first stage done" if metrics["stage"] == "sft" else "finished"
    state = state or State(words, measuring_failed=not measured)
    write_atomic(run / "report.html", page(run, told_of, lines, state, metrics, measured, inline=True))


def page(
    run: Path, told_of: About, lines: list[Line], state: State, metrics: dict[str, Any] | None, measured: bool,
    inline: bool,
) -> str:  # fmt: skip
    """The page as HTML. ``metrics`` are the result of the last finished stage. With ``inline`` the pictures are part of
    it and it can be taken anywhere; without it they lie beside it, and writing it costs next to nothing."""
    settings, character = told_of.settings, told_of.character
    replies = _replies(run) if metrics is not None and measured else []
    study = round(settings.sft.steps * settings.sft.study_share)
    best, overfitted = held_out_in_words(lines, settings.sft)
    before_after = run / "before_after.png"
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE).render(
        name=character.name,
        class_noun=character.class_noun,
        settings=settings,
        state=state,
        written=datetime.now().isoformat(" ", "seconds"),
        warnings=[overfitted] if overfitted else [],
        evaluation=metrics.get("evaluation", {}) if metrics is not None else {},
        compared=compared(metrics) if metrics is not None else [],
        facts=facts(metrics) if metrics is not None else [],
        replies=replies,
        images={"before_after": _source(run, before_after, inline) if replies and before_after.exists() else ""},
        shared=SHARED if (run / SHARED).exists() else "",
        first=first_charts(lines, study),
        study=study,
        best=best,
        second=second_charts(lines),
        likeness=likeness(of_kind(lines, "scenes")),
        prompts=told_of.prompts,
        previews=[
            (_preview_name(file.stem), _source(run, file, inline)) for file in sorted((run / "previews").glob("*.png"))
        ],
        inputs=told_of.inputs,
        command=told_of.command,
        links=[(file, what) for file, what in LINKS if (run / file).exists()],
        versions=versions(),
    )  # fmt: skip


def state_of(lines: list[Line], settings: Settings, words: str | None = None, refresh: int = 0) -> State:
    """What the metrics tell of how far a run is; ``words`` instead of "first stage, step 3 of 200"."""
    grpo = of_kind(lines, "grpo")
    if grpo or of_kind(lines, "scenes"):
        done, total, kind = (grpo[-1]["iteration"] if grpo else 0), settings.grpo.iterations, "grpo"
        where = f"second stage, iteration {done} of {total}"
    else:
        steps = of_kind(lines, "step")
        done, total, kind = (steps[-1]["step"] if steps else 0), settings.sft.steps, "step"
        where = f"first stage, step {done} of {total}"
    left = seconds_left(lines, kind, total) if refresh else None
    return State(f"{words}; {where}" if words else where, done, total, duration(left) if left else "", refresh)


def held_out_in_words(lines: list[Line], settings: SftSettings) -> tuple[str, str]:
    """Which measurement of the first stage is kept and what more steps would bring, and a warning where it has been
    getting worse since then; empty where there is nothing to say."""
    found = outlook(lines, settings)
    best = found.best
    if best is None or (best["step"] == 0 and not found.after):
        return "", ""
    told = f"Kept is step {best['step']}, whose held-out loss is {best['score']:.2f} of the untrained adapter's."
    if found.forecast is not None:
        told = f"{told} {found.forecast.in_words()}"
    if not found.by_heart:
        return told, ""
    return told, (
        f"The held-out loss has risen in all {found.after} measurements since step {best['step']}: the examples are "
        f"being learned by heart. The adapter of step {best['step']} is the one that is kept; more steps will hardly "
        "better it, more or more varied examples would."
    )


def first_charts(lines: list[Line], study: int) -> list[Chart]:
    """Text and picture losses over the steps."""
    steps, judged = of_kind(lines, "step"), of_kind(lines, "held_out")
    charts = []
    for key, title in (("ce", "text (cross-entropy)"), ("mse", "pictures (flow error)")):
        learned = Curve("training", [(line["step"], line[key]) for line in steps], "train")
        held = Curve("held out", [(line["step"], line[key]) for line in judged], "held")
        charts.append(draw_chart(title, "steps", [learned, held], study))
    return [chart for chart in charts if chart is not None] if steps else []


def second_charts(lines: list[Line]) -> list[Chart]:
    """Parts of the reward, and what judges see of held-out scenes, over the iterations."""
    steps, held = of_kind(lines, "grpo"), of_kind(lines, "scenes")
    if not steps:
        return []
    styles = ("train", "third", "fourth", "held")
    parts = [
        Curve(name, [(line["iteration"], line["parts"][name]) for line in steps], styles[index % len(styles)])
        for index, name in enumerate(steps[0]["parts"])
    ]
    judges = (
        ("proxy", "reward's questions", "dashed"),
        ("gold", "other questions", "held"),
        ("identity", "likeness", "fourth"),
    )
    seen = [Curve(label, [(line["iteration"], line[key]) for line in held], style) for key, label, style in judges]
    charts = (
        draw_chart("reward on training scenes", "iterations", parts), draw_chart("held-out scenes", "iterations", seen)
    )  # fmt: skip
    return [chart for chart in charts if chart is not None]


def likeness(measured: list[Line]) -> dict[str, Any] | None:
    """Likeness and copy rate of held-out scenes at the start and at the best iteration, with intervals; None before
    they were measured."""
    # a run of an earlier charforge has counted no pictures
    if not measured or not measured[0].get("pictures"):
        return None
    best = next((line for line in reversed(measured) if line["best"]), measured[0])
    rows = [("likeness to the nearest of the ten pictures (1: the same)", _mean(measured[0]), _mean(best))]
    rows.append(("share of drawings that are copies of one of them", _share(measured[0]), _share(best)))
    return {"pictures": measured[0]["pictures"], "rows": rows}


def _mean(line: Line) -> str:
    half = CERTAIN * line["identity_deviation"] / math.sqrt(line["pictures"])
    return f"{line['identity']:.3f} ({line['identity'] - half:.3f} to {min(1.0, line['identity'] + half):.3f})"


def _share(line: Line) -> str:
    low, high = wilson(line["copy_rate"], line["pictures"])
    return f"{100 * line['copy_rate']:.0f} % ({100 * low:.0f} to {100 * high:.0f} %)"


def wilson(share: float, count: int) -> tuple[float, float]:
    """The interval of a share of ``count`` trials, 95 %: also right where the share is 0 or 1 (Wilson 1927)."""
    z = CERTAIN * CERTAIN
    middle = (share + z / (2 * count)) / (1 + z / count)
    half = CERTAIN / (1 + z / count) * math.sqrt(share * (1 - share) / count + z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def versions() -> str:
    """Of what computed it."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "peft", "transformers"))
    return f"charforge {__version__}, {libraries}, Python {sys.version.split()[0]}, {platform.system()}"


def _replies(run: Path) -> list[tuple[str, str, str]]:
    file = run / "replies.json"
    if not file.exists():
        return []
    told = json.loads(file.read_text("utf-8"))
    return list(zip(told["questions"], told["off"], told["on"], strict=True))


def _source(run: Path, picture: Path, inline: bool) -> str:
    if not inline:
        # of a picture that is written anew a browser would show the old one
        return f"{picture.relative_to(run).as_posix()}?{picture.stat().st_mtime_ns}"
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()


def _thumbnail(picture: CharacterPicture) -> tuple[str, str, str]:
    image = load_picture(picture.path).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return picture.name, picture.caption or "", "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _preview_name(stem: str) -> str:
    stage, _, number = stem.rpartition("-")
    return f"second stage, iteration {int(number)}" if stage else f"first stage, step {int(number)}"
