"""Character-GRPO as part of a run: its scenes, its judges, its log; the adapter that did best is left in the model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from charforge.bases.base import Base
from charforge.character import Character
from charforge.expand import Pair
from charforge.expand.scenes import Scene, read_scenes, write_new_scenes, write_scenes
from charforge.judges.judges import load_judges
from charforge.run.progress import Progress
from charforge.sample import Picture
from charforge.settings import Settings
from charforge.train.checkpoints import load_best
from charforge.train.grpo import GrpoResult, train_grpo
from charforge.train.interrupt import Interruption
from charforge.train.memory import memory_of_second_stage
from charforge.train.samples import Dataset
from charforge.train.team import ALONE, Team


def run_scenes(run: Path, character: Character, seed: int) -> list[Scene]:
    """The run's scenes; an existing file, perhaps edited by hand before continuing, is used as it is."""
    file = run / "pairs" / "scenes.jsonl"
    if not file.exists():
        write_scenes(file, write_new_scenes(character, seed))
    return read_scenes(file)


def trained_names(character: Character, pairs: list[Pair]) -> list[str]:
    """The names of the character's pictures that are drawn in training: what the judges know it by."""
    shown = {name for pair in pairs if pair.split == "train" for name in pair.images("draw")}
    return [picture.name for picture in character.pictures if picture.name in shown]


def second_stage(
    base: Base, parameters: dict[str, nn.Parameter], data: Dataset, scenes: list[Scene],
    references: dict[str, Picture], settings: Settings, run: Path, progress: Progress, prompts: list[str],
    stop: Interruption, team: Team = ALONE,
) -> dict[str, Any]:  # fmt: skip
    """Train, or go on training, as the first process of a ``team``; returns what the run tells of it.

    Raises MachineError when a judge is missing.
    """
    progress.begin("loading the judges", settings.grpo.iterations)
    judges = load_judges(base.model, settings.reward, references)
    progress.begin("measuring held-out scenes", settings.grpo.iterations)
    folder = run / "checkpoints" / "grpo"
    hooks = progress.grpo_hooks(lambda iteration: progress.preview(base, prompts, iteration, "grpo-"))
    memory = memory_of_second_stage(base.model, settings, progress.note, run / "memory.json")
    result = train_grpo(base.model, parameters, data, scenes, judges, settings, folder, hooks, memory, stop, team)
    # the iteration that did best on held-out scenes, or the first stage where none did better
    load_best(parameters, run / "checkpoints" / "best.safetensors")
    load_best(parameters, folder / "best.safetensors")
    return stage_metrics(result)


def stage_metrics(result: GrpoResult) -> dict[str, Any]:
    """The second stage in the run's metrics."""
    kept = ("proxy", "gold", "identity", "gold_identity", "copy_rate")
    lines = {"before": asdict(result.start), "after": asdict(result.best)}
    return {
        "grpo_iterations": result.iterations,
        "grpo_best": result.best.iteration,
        "grpo_ended": result.ended,
        **{f"scenes_{name}_{when}": round(line[name], 4) for name in kept for when, line in lines.items()},
    }
