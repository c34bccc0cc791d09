"""A trained run on held-out scenes and dialogues, sampled as users sample, with bootstrap intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from charforge.adapter.load import load_adapter
from charforge.bases.base import Base, load_base, use_picture_sizes
from charforge.bases.drawing import draw_pixels
from charforge.errors import InputError
from charforge.evaluate.requests import held_out_requests, request_values
from charforge.expand import Pair, read_pairs
from charforge.expand.scenes import Scene, read_scenes
from charforge.judges.evidence import Judges
from charforge.judges.judges import load_judges
from charforge.judges.likeness import nearest_similarity
from charforge.judges.scene import judge_scenes
from charforge.kinds import TALK
from charforge.pixels import to_image
from charforge.rendering import render
from charforge.sample import Sample
from charforge.settings import ChatSettings, Settings, read_settings
from charforge.train.dataset import read_prepared

SEED = 90_000
"""Of the first picture: other noise than any that training saw or chose by."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Drawn:
    """Pictures (scenes * each, 3, H, W) of some scenes, ``each`` of a scene in order."""

    scenes: list[Scene]
    pictures: Tensor
    each: int

    @property
    def shown(self) -> list[Scene]:
        return [scene for scene in self.scenes for _ in range(self.each)]

    def images(self) -> list[Image.Image]:
        """The pictures as pictures."""
        return [to_image(picture) for picture in self.pictures]


@dataclass(frozen=True)
class OpenRun:
    """A finished run, loaded for measuring: its held-out scenes, conversations and requests for pictures."""

    base: Base
    judges: Judges
    scenes: list[Scene]
    voice: list[Sample]
    requests: list[Pair]
    chat: ChatSettings


def load_run(run: Path, device: str, adapter: bool = True) -> OpenRun:
    """Load base, adapter, judges and held-out data of ``run``. Raises InputError when it is no finished run."""
    for name in ("result.json", "config.toml", "pairs/pairs.jsonl", "pairs/scenes.jsonl"):
        if not (run / name).exists():
            raise InputError(f"{run} is no finished run ({name} is missing): name a folder that charforge train made")
    settings: Settings = read_settings(run / "config.toml", None, [])
    base = use_picture_sizes(load_base(settings.base, settings.quantize, device), settings.pictures)
    if adapter:
        load_adapter(base.model, run / "adapter", base.model.dtype)
    pairs = read_pairs(run / "pairs" / "pairs.jsonl")
    pictures = read_prepared(base.model, run / "cache")
    shown = {name for pair in pairs if pair.split == "train" for name in pair.images("draw")}
    judges = load_judges(base.model, settings.reward, {name: pictures[name] for name in sorted(shown & set(pictures))})
    scenes = [scene for scene in read_scenes(run / "pairs" / "scenes.jsonl") if scene.split == "held_out"]
    voice = [render(pair, base.model, pictures) for pair in pairs if pair.split == "held_out" and pair.task in TALK]
    return OpenRun(base, judges, scenes, voice, held_out_requests(pairs), settings.chat)


def draw_scenes(base: Base, scenes: Sequence[Scene], each: int, report: Callable[[int, int], None]) -> Drawn:
    """``each`` pictures of every scene with the base's own sampling settings and fixed seeds."""
    pictures: list[Tensor] = []
    for number, scene in enumerate(scenes):
        seeds = [SEED + number * each + index for index in range(each)]
        pictures.append(draw_pixels(base.model, [scene.prompt] * each, seeds))
        report(number + 1, len(scenes))
    return Drawn(list(scenes), torch.cat(pictures), each)


def scene_values(base: Base, judges: Judges, drawn: Drawn) -> dict[str, np.ndarray]:
    """One value a scene for each measure of its pictures; the interval comes from resampling scenes."""
    shown = drawn.shown
    features = judges.encoder.encode(drawn.pictures).cpu()
    nearest = nearest_similarity(features, judges.references)
    looked = base.model.look_at(drawn.pictures)
    yes_no, by_kind = judge_scenes(base.model, looked.parts, shown)
    tower = nearest_similarity(looked.features.cpu(), judges.tower_references)
    keyed = torch.stack(list(by_kind.values()))
    values = {
        "scene": keyed.nanmean(0),
        "scene_yes_no": yes_no,
        "identity": nearest,
        "identity_tower": tower,
        "copy_rate": (nearest > judges.references.copy).float(),
    }
    per_scene = {name: value.view(-1, drawn.each).mean(1).numpy() for name, value in values.items()}
    if drawn.each > 1:
        grouped = features.view(-1, drawn.each, features.shape[-1])
        between = (1 - grouped @ grouped.transpose(1, 2)).sum(dim=(1, 2)) / (drawn.each * (drawn.each - 1))
        per_scene["variety"] = between.numpy()
    return per_scene


@torch.no_grad()
def voice_values(base: Base, voice: Sequence[Sample]) -> np.ndarray:
    """(held-out conversations, 2): summed cross-entropy of the replies and their tokens."""
    rows = []
    with base.model.autocast():
        for sample in voice:
            total, count = base.model.text_loss([sample])
            rows.append((total.item(), count))
    return np.array(rows)


def interval(values: np.ndarray, statistic: Callable[[np.ndarray], float]) -> dict[str, float]:
    """The statistic of all rows and its 95 % bootstrap interval over rows."""
    rng = np.random.default_rng(0)
    resampled = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(RESAMPLES)]
    low, high = np.quantile(resampled, (0.025, 0.975))
    return {"value": round(statistic(values), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def perplexity(rows: np.ndarray) -> float:
    """Of (sum, tokens) rows: the exponential of the mean cross-entropy per token."""
    return float(np.exp(rows[:, 0].sum() / rows[:, 1].sum()))


def measured(opened: OpenRun, drawn: Drawn) -> dict[str, dict[str, float]]:
    """All measures with their intervals, as ``charforge eval --json`` tells them. Lower ``voice`` is better."""
    seen = scene_values(opened.base, opened.judges, drawn)
    metrics = {name: interval(values, lambda a: float(a.mean())) for name, values in seen.items()}
    if opened.voice:
        metrics["voice"] = interval(voice_values(opened.base, opened.voice), perplexity)
    if opened.requests:
        values = request_values(opened.base.model, opened.requests, opened.chat)
        metrics["requests"] = interval(values, lambda a: float(a.mean()))
    return metrics


def result_line(run: Path, metrics: dict[str, dict[str, float]]) -> dict[str, Any]:
    """One entry of ``runs``."""
    return {"run": str(run), "metrics": metrics, "result": json.loads((run / "result.json").read_text("utf-8"))}
