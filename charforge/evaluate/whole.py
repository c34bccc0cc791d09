"""A run measured as a whole: with the adapter, without it, and what the real thing scores; as values and as JSON."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charforge.character import Character
from charforge.evaluate.forgetting import forgotten, own_pictures, own_texts, picture_rows, text_rows
from charforge.evaluate.intervals import Interval, Series, paired_difference
from charforge.evaluate.measure import Drawn, OpenRun, Real, draw_scene
from charforge.evaluate.prompt_tokens import prompt_series
from charforge.evaluate.series import (
    STEPS_BESIDE,
    Extent,
    Report,
    State,
    ceilings,
    measure_state,
    measure_words,
    own_words,
    with_pictures,
)
from charforge.families.protocol import UnifiedModel
from charforge.low_rank import adapter_off

FEWEST_SCENES = 2
"""Below which pictures say nothing."""
WITH_JUDGING = 1.3
"""Drawing a picture and judging it takes so much longer than drawing it (measured on ``mini``, docs/log.md)."""
BARE_WORDS = 1.5
"""Talk of the bare base, cut to the length of the character's, takes at most so much longer: all of it is long."""


@dataclass(frozen=True)
class KnownReplies:
    """What was said to the run's held-out requests for pictures, all of them, when they were measured before."""

    with_adapter: list[str]
    without: list[str]


@dataclass(frozen=True)
class Measured:
    """``after``: with the adapter. ``before``: the bare base on the same prompts and noise; None where it was not asked
    for. ``ceiling``: the character's own pictures and lines. ``copy``: the likeness from which a picture is a copy;
    ``own``: what its files say; ``character``: who they say it is, None where the run's bundle was moved away."""

    run: Path
    name: str
    encoder: str
    copy: float
    real: Real | None
    own: str
    character: Character | None
    after: State
    before: State | None
    ceiling: dict[str, Series]

    def metrics(self) -> dict[str, Interval]:
        """The measures of the run with their intervals."""
        return intervals(self.after.series)


def intervals(series: Mapping[str, Series]) -> dict[str, Interval]:
    """Each measure with its interval; what could not be measured of a single thing is left out."""
    found = {name: one.interval() for name, one in series.items()}
    return {name: one for name, one in found.items() if not math.isnan(one["value"])}


def measure_run(run: Path, opened: OpenRun, extent: Extent, report: Report, compare: bool = True) -> Measured:
    """Measure an open run; with ``compare`` also the same base without its adapter, and what was forgotten.

    ``report(steps done, in all)`` counts both.
    """
    steps = min(len(opened.scenes), extent.scenes) + STEPS_BESIDE
    total = steps * (2 if compare else 1)
    after = measure_state(opened, extent, lambda done, _: report(done, total))
    if not compare:
        return _measured(run, opened, after, None)
    with adapter_off(opened.base.model.network):
        before = measure_state(opened, extent, lambda done, _: report(steps + done, total))
    if extent.others:
        model = opened.base.model
        after = replace(after, series=after.series | forgetting_series(model, extent.others))
        if opened.character is not None:
            on, off = prompt_series(model, opened.character, opened.pairs, extent.others)
            after, before = (replace(one, series=one.series | own) for one, own in ((after, on), (before, off)))
    return _measured(run, opened, after, before)


def measure_within(
    run: Path, opened: OpenRun, seconds: float, picture_seconds: float, report: Report,
    clock: Callable[[], float] = time.monotonic, known: KnownReplies | None = None,
) -> Measured | None:  # fmt: skip
    """The quick form with as many scenes as ``seconds`` allow, with the adapter and without it; None where that is
    fewer than ``FEWEST_SCENES``. Replies of the bare base are cut to the length of the longest of the character's.

    ``picture_seconds``: how long drawing one picture has taken; ``known``: replies that need not be sampled again.
    """
    extent, fewest = Extent.quick(1), FEWEST_SCENES * 2 * WITH_JUDGING * picture_seconds
    scenes = opened.scenes[: extent.scenes]
    total, network = len(scenes) + 3, opened.base.model.network
    if seconds < fewest:
        return None
    began = clock()
    words = measure_words(opened, extent, lambda done: None, known.with_adapter if known else None)
    if seconds < (1 + BARE_WORDS) * (clock() - began) + fewest:
        return None
    report(1, total)
    # the bare base does not know when to end: it may talk as long as the longest reply of the character
    longest = max((len(opened.base.model.reply_tokens(reply)) for reply in words.replies.raw), default=0)
    brief = opened.chat.model_copy(update={"max_tokens": max(1, min(longest, opened.chat.max_tokens))})
    with adapter_off(network):
        told = known.without if known else None
        bare_words = measure_words(replace(opened, chat=brief), extent, lambda done: None, told)
    report(2, total)
    spoken, drawn, bare = clock(), [], []
    for number, scene in enumerate(scenes):
        # what is drawn has to be judged afterwards
        pairs = WITH_JUDGING * (clock() - spoken) * (number + 1) / max(number, 1)
        if number >= FEWEST_SCENES and spoken - began + pairs > seconds:
            break
        drawn.append(draw_scene(opened.base, scene, number, 1))
        with adapter_off(network):
            bare.append(draw_scene(opened.base, scene, number, 1))
        report(3 + number, total)
    shown = scenes[: len(drawn)]
    after = with_pictures(opened, extent, words, Drawn(shown, torch.cat(drawn), 1))
    with adapter_off(network):
        before = with_pictures(opened, extent, bare_words, Drawn(shown, torch.cat(bare), 1))
    report(total, total)
    return _measured(run, opened, after, before)


def _measured(run: Path, opened: OpenRun, after: State, before: State | None) -> Measured:
    # without the base: several runs are measured one after the other
    judges, character = opened.judges, opened.character
    name = character.name if character is not None else run.name
    encoder, mark, own = judges.encoder.name, judges.references.copy, own_words(opened)
    return Measured(run, name, encoder, mark, opened.real, own, character, after, before, ceilings(opened))


def forgetting_series(model: UnifiedModel, most: int) -> dict[str, Series]:
    """How much worse the base's own texts and pictures are foreseen with the adapter than without it."""
    with adapter_off(model.network):
        texts, pictures = own_texts(model, most), own_pictures(model, most)
        off = [text_rows(model, texts), picture_rows(model, pictures)]
    on = [text_rows(model, texts), picture_rows(model, pictures)]
    return {
        name: Series(tuple(map(str, range(len(bare)))), np.concatenate([bare, rows], axis=1), forgotten)
        for name, bare, rows in zip(("forgetting_texts", "forgetting_pictures"), off, on, strict=True)
        if len(bare)
    }


def figures(measured: Measured) -> dict[str, Any]:
    """``metrics`` of the run, ``before`` without its adapter, ``ceiling`` of the real thing, and whose eyes."""
    told: dict[str, Any] = {
        "metrics": measured.metrics(),
        "encoder": measured.encoder,
        "ceiling": intervals(measured.ceiling),
    }
    if measured.before is not None:
        told["before"] = intervals(measured.before.series)
    return told


def result_line(measured: Measured) -> dict[str, Any]:
    """One entry of ``runs``: :func:`figures`, and what the run itself says of its result."""
    result = json.loads((measured.run / "result.json").read_text("utf-8"))
    return {"run": str(measured.run), "result": result, **figures(measured)}


def comparisons(runs: Sequence[Measured]) -> list[dict[str, Any]]:
    """By how much each run after the first is higher than the first, on what both measured, with paired intervals.

    Likenesses by different encoders are not compared: they have scales of their own.
    """
    if len(runs) < 2:
        return []
    first, *others = runs
    return [{"run": str(other.run), "than": str(first.run), "metrics": _differences(first, other)} for other in others]


def _differences(first: Measured, other: Measured) -> dict[str, Interval]:
    same_encoder = first.encoder == other.encoder
    found = {}
    for name in first.after.series.keys() & other.after.series.keys():
        difference = paired_difference(first.after.series[name], other.after.series[name])
        if difference is not None and (same_encoder or name not in BY_ENCODER):
            found[name] = difference
    return dict(sorted(found.items()))


BY_ENCODER = frozenset({"identity", "likeness", "copy_rate", "variety"})
"""Measures that rest on the encoder of the run's settings."""
