"""What a person sees during a run: a bar on stderr, ``metrics.jsonl``, previews with fixed seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from charforge.bases.base import Base
from charforge.bases.drawing import draw_prompts
from charforge.files import write_atomic_with
from charforge.machine import peak_memory_gib
from charforge.pixels import contact_sheet
from charforge.progress import Display, display
from charforge.train.grpo import GrpoHooks, IterationLog
from charforge.train.held_out_scenes import HeldOutScenes
from charforge.train.sft import HeldOut, Hooks, StepLog

PREVIEW_SEED = 1000


class Progress:
    """The screen and the metrics file of one run. ``on_line`` hears of every line of the latter, ``track`` what it is;
    ``check`` raises when this process may not write any more; ``on_step`` hears that a step of either stage is done.
    """

    def __init__(
        self, run: Path, on_line: Callable[[], None] = lambda: None, check: Callable[[], None] = lambda: None,
        on_step: Callable[[], None] = lambda: None, track: Callable[[dict[str, object]], None] = lambda line: None,
    ) -> None:  # fmt: skip
        self.run = run
        self._on_line, self._check, self._on_step, self._track = on_line, check, on_step, track
        self._open = ExitStack()
        self._part: str = ""
        self._total: int | None = None
        self._held_out = ""

    def __enter__(self) -> Self:
        self._display: Display = self._open.enter_context(display(transient=False))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def begin(self, name: str, total: int | None) -> None:
        """Name what is going on, and how many steps it has (None: nobody knows)."""
        self._part, self._total = name, total
        self._display.begin(name, total)

    def count(self, done: int, total: int) -> None:
        """So much of what was begun last is done."""
        self._display.update(done, total)

    def note(self, line: str) -> None:
        """A line that stays on the screen, and in the metrics."""
        self._write({"kind": "note", "text": line})
        self._display.note(line)

    def hooks(self, on_preview: Callable[[int], None]) -> Hooks:
        """The callbacks of the training loop."""
        return Hooks(self._step, self._judged, on_preview)

    def _step(self, log: StepLog) -> None:
        self._write({"kind": "step", **asdict(log), "memory_gib": round(peak_memory_gib(), 2)})
        losses = f"text {log.ce:.2f}  pictures {log.mse:.3f}  {self._held_out}"
        text = f"{losses}{log.seconds:.1f} s/step  {peak_memory_gib():.1f} GiB"
        self._count("first stage", log.step, text)

    def grpo_hooks(self, on_preview: Callable[[int], None]) -> GrpoHooks:
        """The callbacks of the second stage's loop."""
        return GrpoHooks(self._iteration, self._scenes, on_preview, self.note)

    def _iteration(self, log: IterationLog) -> None:
        self._write({"kind": "grpo", **asdict(log), "memory_gib": round(peak_memory_gib(), 2)})
        parts = "  ".join(f"{name} {value:.2f}" for name, value in log.parts.items())
        pace = f"{log.images_per_second:.1f} pictures/s  {peak_memory_gib():.1f} GiB"
        self._count("second stage", log.iteration, f"{parts}  {self._held_out}{pace}")

    def _count(self, part: str, done: int, text: str) -> None:
        if self._part != part:
            # what was going on before, loading and encoding, has come to its end
            self.begin(part, self._total)
        self._display.update(done, text=text)
        self._on_step()

    def _scenes(self, result: HeldOutScenes, is_best: bool) -> None:
        self._write({"kind": "scenes", **asdict(result), "best": is_best})
        self._held_out = f"held-out scenes {result.gold:.2f}  "

    def _judged(self, result: HeldOut, is_best: bool) -> None:
        # nan is no JSON: what was not measured is null
        values = {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in asdict(result).items()}
        self._write({"kind": "held_out", **values, "best": is_best})
        self._held_out = f"held-out {result.score:.3f}  "

    def preview(self, base: Base, prompts: list[str], step: int, stage: str = "") -> None:
        """One sheet of the fixed prompts with fixed seeds."""
        pictures = draw_prompts(base.model, prompts, [PREVIEW_SEED + index for index in range(len(prompts))])
        sheet = contact_sheet(pictures, len(pictures), pictures[0].width)
        write_atomic_with(self.run / "previews" / f"{stage}{step:05d}.png", lambda path: sheet.save(path, "PNG"))

    def _write(self, line: dict[str, object]) -> None:
        self._check()
        with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._on_line()
        self._track(line)
