"""``metrics.jsonl`` read back: what a run has told of itself so far, and how long it may still take."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from charforge.errors import InputError

Line = dict[str, Any]
RECENT = 20
"""Steps that the time left is counted from."""


def read_metrics(run: Path) -> list[Line]:
    """The whole lines of the metrics: the last one may be half written by a process that runs, or was killed.

    Raises InputError naming a line that is damaged.
    """
    file = run / "metrics.jsonl"
    if not file.exists():
        return []
    written = file.read_bytes()
    lines: list[Line] = []
    for number, line in enumerate(written[: written.rfind(b"\n") + 1].splitlines(), 1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise InputError(f"line {number} of {file} is damaged ({error}): delete that line") from error
    return lines


def of_kind(lines: list[Line], kind: str) -> list[Line]:
    """Those of one kind in their order. A run that went on repeats what came after its checkpoint: the later counts."""
    key = "iteration" if kind in ("grpo", "scenes") else "step"
    return list({line[key]: line for line in lines if line["kind"] == kind}.values())


def seconds_left(lines: list[Line], kind: str, total: int | None) -> float | None:
    """About how long the steps take that are left of a stage: ``kind`` is step or grpo. None before the first one.

    Measuring and drawing beside the steps are not counted.
    """
    done = of_kind(lines, kind)
    if not done or total is None:
        return None
    pace = median(_seconds(line) for line in done[-RECENT:])
    return pace * max(0, total - done[-1]["step" if kind == "step" else "iteration"])


def _seconds(line: Line) -> float:
    parts = ("seconds",) if line["kind"] == "step" else ("rollout_seconds", "reward_seconds", "update_seconds")
    return float(sum(line[part] for part in parts))
