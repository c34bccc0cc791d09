"""TensorBoard, Weights & Biases or Trackio beside ``metrics.jsonl``, where a setting asks for one: through accelerate.

Weights & Biases sends what it is given to its service, unless WANDB_MODE=offline says otherwise; TensorBoard and
Trackio write to this machine. Nothing but figures, settings and the name of the run is given to them: no texts, no
pictures.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from charforge.errors import MachineError
from charforge.settings import Settings, deciding

LIBRARIES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "trackio": ("trackio",)}
"""What each tracker needs; any of them will do."""
KINDS = {"step": ("first", "step"), "held_out": ("first_held_out", "step"), "grpo": ("second", "iteration"),
         "scenes": ("second_held_out", "iteration")}  # fmt: skip
"""By the kind of a line of the metrics: how its figures are called in front, and what counts it."""


def check_tracker(settings: Settings) -> None:
    """Raises MachineError with the remedy when the library of the tracker that is asked for is not here."""
    wanted = settings.tracking.tracker
    if wanted != "none" and not any(importlib.util.find_spec(name) for name in LIBRARIES[wanted]):
        raise MachineError(
            f"tracking.tracker is {wanted}, whose library is not here: pip install {LIBRARIES[wanted][0]}, or leave "
            'the setting at "none"'
        )


class Tracking:
    """Hands the figures of a run to the tracker of its settings; does nothing where that is none.

    What goes wrong with a tracker ends no run: ``tell`` hears of it once, and it is left alone from then on.
    """

    def __init__(self, run: Path, settings: Settings, tell: Callable[[str], None]) -> None:
        self._tell, self._tracker = tell, None
        if settings.tracking.tracker != "none":
            self._attempt(lambda: self._start(run, settings))

    def _start(self, run: Path, settings: Settings) -> None:
        from accelerate import PartialState
        from accelerate.tracking import TensorBoardTracker, TrackioTracker, WandBTracker

        # its trackers ask it which process writes
        PartialState()
        tracker: Any
        if settings.tracking.tracker == "tensorboard":
            tracker = TensorBoardTracker(run.name, run / "tensorboard")
        elif settings.tracking.tracker == "wandb":
            tracker = WandBTracker(settings.tracking.project, name=run.name, dir=run)
        else:
            tracker = TrackioTracker(settings.tracking.project, name=run.name)
        tracker.start()
        plain = {name: value for name, value in deciding(settings).items() if isinstance(value, int | float | str)}
        tracker.store_init_configuration(plain)
        self._tracker = tracker

    def log(self, line: dict[str, Any]) -> None:
        """One line of the metrics; lines of other kinds than :data:`KINDS` are passed over."""
        tracker = self._tracker
        if tracker is None or line["kind"] not in KINDS:
            return
        front, counter = KINDS[line["kind"]]
        self._attempt(lambda: tracker.log(figures(line, front), step=line[counter]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the tracker write out what it holds back, however the run ends."""
        if (tracker := self._tracker) is not None:
            self._attempt(tracker.finish)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._tracker = None
            self._tell(f"the tracker failed ({error or type(error).__name__}): training goes on without it")


def figures(line: dict[str, Any], front: str) -> dict[str, float]:
    """The numbers of a line, also those one level deeper, by name with ``front`` before it."""
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, dict):
            found |= figures(value, f"{front}/{name}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{front}/{name}"] = float(value)
    return found
