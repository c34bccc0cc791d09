"""The quick form of ``charforge eval`` at the end of a run, as far as a share of the training's time allows."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from charforge.bases.base import Base
from charforge.character import Character
from charforge.evaluate.measure import open_loaded
from charforge.evaluate.page import markdown, write_page
from charforge.evaluate.verdict import rows_of, verdict
from charforge.evaluate.whole import KnownReplies, figures, measure_within
from charforge.expand import Pair
from charforge.expand.scenes import Scene
from charforge.files import write_atomic, write_atomic_with
from charforge.judges.likeness import FEWEST_REFERENCES
from charforge.pixels import contact_sheet
from charforge.sample import Picture
from charforge.settings import Settings


def evaluate_at_end(
    run: Path, base: Base, settings: Settings, character: Character, pairs: list[Pair], scenes: list[Scene],
    pictures: dict[str, Picture], seconds: float, picture_seconds: float, command: str,
    report: Callable[[int, int], None], known: KnownReplies | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure what has been trained and write ``evaluation.html``, ``.md`` and ``.png`` into the run folder.

    ``seconds``: how long the evaluation may take; ``picture_seconds``: how long drawing one picture has taken;
    ``known``: replies to requests that need not be sampled again. Returns the ``verdict`` with the figures and how long
    they took, or ``left_out`` with the reason. Raises MachineError where a judge is missing.
    """
    again = f"charforge eval {shlex.quote(str(run))} --quick"
    if sum(name in pictures for name in _drawn(pairs)) < FEWEST_REFERENCES:
        return {"left_out": f"the evaluation needs {FEWEST_REFERENCES} training pictures"}
    began = time.monotonic()
    opened = open_loaded(base, settings, pairs, scenes, pictures, character)
    loading = time.monotonic() - began
    measured = measure_within(run, opened, seconds - loading, picture_seconds, report, known=known)
    if measured is None:
        return {"left_out": f"too little time was left for an evaluation: {again} makes it"}
    taken = measured.after.drawn.images()
    sheet = contact_sheet(taken, len(taken), taken[0].width)
    write_atomic_with(run / "evaluation.png", partial(sheet.save, format="PNG"))
    write_page(run / "evaluation.html", measured, command)
    write_atomic(run / "evaluation.md", markdown(measured, command))
    told = {"verdict": verdict(measured, rows_of(measured)), **figures(measured)}
    return {**told, "scenes": len(taken), "seconds": round(time.monotonic() - began, 1)}


def _drawn(pairs: list[Pair]) -> set[str]:
    return {name for pair in pairs if pair.split == "train" for name in pair.images("draw")}
