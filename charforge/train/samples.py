"""The samples of a run by kind, and which of them a step takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch

from charforge.families.protocol import UnifiedModel
from charforge.kinds import KINDS, kinds_of_step
from charforge.sample import Noise, Sample
from charforge.settings import SftSettings
from charforge.train.losses import draw_noise, drop_captions

Item = TypeVar("Item")
Entry = tuple[Sample, ...]
"""Samples that one step takes together, because they share what they begin with; most are alone."""


@dataclass(frozen=True)
class Dataset:
    """What a run trains and measures on: ``entries`` by kind (charforge/kinds.py), so that no kind drowns another.

    Raises ValueError for a kind that is not in the table.
    """

    entries: Mapping[str, Sequence[Entry]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := set(self.entries) - {kind.name for kind in KINDS}:
            raise ValueError(f"no kinds of samples: {sorted(unknown)}; there are {[kind.name for kind in KINDS]}")

    def of(self, kind: str) -> Sequence[Entry]:
        """The entries of a kind; none where the run has none of it."""
        return self.entries.get(kind, ())

    def samples(self, kind: str) -> list[Sample]:
        """All samples of a kind."""
        return [sample for entry in self.of(kind) for sample in entry]


def alone(samples: Iterable[Sample]) -> list[Entry]:
    """Each sample as an entry of its own."""
    return [(sample,) for sample in samples]


def step_generator(seed: int, step: int) -> torch.Generator:
    """The source of all randomness of one step."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def choose(items: Sequence[Item], count: int, step: int, seed: int) -> list[Item]:
    """The ``count`` items of ``step``: epoch after epoch, each epoch in its own random order."""
    chosen = []
    for position in range(step * count, (step + 1) * count) if items else ():
        epoch, index = divmod(position, len(items))
        order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed * 7919 + epoch))
        chosen.append(items[int(order[index])])
    return chosen


def study_steps(data: Dataset, settings: SftSettings) -> int:
    """How many steps come first that study without dialogues; 0 where there is nothing to study.

    A reply has five times the tokens of an answer: in the same step the voice drowns the facts.
    """
    studied = [kind for kind in KINDS if kind.study is not None]
    something = any(settings.count(kind, studying=True) and data.of(kind.name) for kind in studied)
    return round(settings.steps * settings.study_share) if something else 0


def step_samples(
    data: Dataset, loss: Literal["text", "picture"], settings: SftSettings, seed: int, step: int
) -> list[Sample]:
    """The samples of ``step`` that one of its losses learns."""
    first = study_steps(data, settings)
    studying = step < first
    samples: list[Sample] = []
    for kind in kinds_of_step(loss, studying):
        # after the study steps the voice begins its first epoch
        number = step - first if kind.part == "voice" and not studying else step
        for entry in choose(data.of(kind.name), settings.count(kind, studying), number, seed):
            samples += entry
    return samples


def step_batch(
    model: UnifiedModel, data: Dataset, settings: SftSettings, seed: int, step: int
) -> tuple[list[Sample], list[Sample], Noise | None]:
    """Texts, pictures (each ``draws`` times, some without caption) and their noise for one step."""
    generator = step_generator(seed, step)
    texts = step_samples(data, "text", settings, seed, step)
    pictures = step_samples(data, "picture", settings, seed, step)
    pictures = drop_captions(model, pictures, settings.caption_dropout, generator)
    pictures = [picture for picture in pictures for _ in range(settings.draws)]
    noise = draw_noise(pictures, settings.timestep_shift, generator) if pictures else None
    return texts, pictures, noise
