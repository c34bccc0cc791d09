"""A trained run, opened for measuring: its held-out scenes drawn as users draw, and what is seen of the pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from charforge.adapter.load import load_adapter
from charforge.bases.base import Base, load_base, use_picture_sizes
from charforge.bases.drawing import draw_pixels
from charforge.bundle import read_bundle
from charforge.character import Character
from charforge.errors import InputError
from charforge.evaluate.identity import Scale, likeness, likeness_scale
from charforge.evaluate.requests import held_out_requests
from charforge.evaluate.variety import variety
from charforge.expand import Pair, read_pairs
from charforge.expand.scenes import Scene, left_for_test, read_scenes
from charforge.judges.copies import copied
from charforge.judges.evidence import Judges
from charforge.judges.judges import load_judges
from charforge.judges.likeness import nearest_similarity
from charforge.judges.scene import judge_scenes
from charforge.kinds import TALK
from charforge.pixels import to_image
from charforge.rendering import render
from charforge.sample import Picture, Sample
from charforge.settings import ChatSettings, Settings, settings_of_run
from charforge.train.dataset import read_prepared

SEED = 90_000
"""Of the first picture: other noise than any that training saw or chose by."""
FILES = ("result.json", "config.toml", "pairs/pairs.jsonl", "pairs/scenes.jsonl")


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
class Real:
    """The character's own pictures (3, H, W) as the model draws them at best: those of training, in the order of
    ``names`` and of the judges' references; those held out; and where they stand on the encoder's scale."""

    names: tuple[str, ...]
    trained: tuple[Tensor, ...]
    held_out: tuple[Tensor, ...]
    scale: Scale | None


@dataclass(frozen=True)
class OpenRun:
    """A finished run, loaded for measuring: its held-out scenes, conversations and requests for pictures.

    ``character`` is that of the run's bundle; None where the bundle was moved away.
    """

    base: Base
    judges: Judges
    scenes: list[Scene]
    voice: list[Sample]
    requests: list[Pair]
    chat: ChatSettings
    pairs: list[Pair] = field(default_factory=list)
    real: Real | None = None
    character: Character | None = None


def is_run(path: Path) -> bool:
    """Whether ``path`` is the folder of a finished run."""
    return all((path / name).exists() for name in FILES)


def load_run(run: Path, device: str, adapter: bool = True) -> OpenRun:
    """Load base, adapter, judges and held-out data of ``run``. Raises InputError when it is no finished run."""
    for name in FILES:
        if not (run / name).exists():
            raise InputError(f"{run} is no finished run ({name} is missing): name a folder that charforge train made")
    settings = settings_of_run(run / "config.toml")
    base = use_picture_sizes(load_base(settings.base, settings.quantize, device), settings.pictures)
    bundles = sorted(run.glob("*.charx"))
    manifest = read_bundle(bundles[0]).manifest if bundles else None
    if adapter:
        load_adapter(base.model, run / "adapter", base.model.dtype)
    character = manifest.to_character() if manifest is not None else None
    pairs, scenes = read_pairs(run / "pairs" / "pairs.jsonl"), read_scenes(run / "pairs" / "scenes.jsonl")
    return open_loaded(base, settings, pairs, scenes, read_prepared(base.model, run / "cache"), character)


def open_loaded(
    base: Base, settings: Settings, pairs: list[Pair], scenes: Sequence[Scene], pictures: Mapping[str, Picture],
    character: Character | None,
) -> OpenRun:  # fmt: skip
    """A run whose base and adapter are loaded; ``pictures`` are the character's own, prepared. Loads the judges.

    Raises InputError with too few pictures, MachineError where a judge is missing.
    """
    shown = {name for pair in pairs if pair.split == "train" for name in pair.images("draw")}
    trained = sorted(shown & set(pictures))
    judges = load_judges(base.model, settings.reward, {name: pictures[name] for name in trained})
    held_scenes = [scene for scene in scenes if scene.split == "held_out"]
    tested = left_for_test(held_scenes, settings.grpo.held_out_pictures)
    voice = [render(pair, base.model, pictures) for pair in pairs if pair.split == "held_out" and pair.task in TALK]
    decoded = {name: base.model.decode_target(picture.target).cpu() for name, picture in pictures.items()}
    own = tuple(decoded[name] for name in trained)
    held_out = tuple(decoded[name] for name in sorted(set(decoded) - set(trained)))
    real = Real(tuple(trained), own, held_out, likeness_scale(judges.encoder.encode, own))
    return OpenRun(base, judges, tested, voice, held_out_requests(pairs), settings.chat, pairs, real, character)


def draw_scenes(base: Base, scenes: Sequence[Scene], each: int, report: Callable[[int, int], None]) -> Drawn:
    """``each`` pictures of every scene with the base's own sampling settings and fixed seeds."""
    pictures: list[Tensor] = []
    for number, scene in enumerate(scenes):
        pictures.append(draw_scene(base, scene, number, each))
        report(number + 1, len(scenes))
    return Drawn(list(scenes), torch.cat(pictures), each)


def draw_scene(base: Base, scene: Scene, number: int, each: int) -> Tensor:
    """``each`` pictures (each, 3, H, W) of a scene; its place among the scenes, ``number``, decides the noise."""
    return draw_pixels(base.model, [scene.prompt] * each, [SEED + number * each + index for index in range(each)])


@dataclass(frozen=True)
class Seen:
    """What the judges see of each picture: ``values`` (pictures,) by measure, its features (pictures, width) and which
    training picture it is most like (pictures,), in the order of ``Judges.references``."""

    values: dict[str, Tensor]
    features: Tensor
    nearest: Tensor


def see(base: Base, judges: Judges, drawn: Drawn, real: Real | None = None) -> Seen:
    """Judge every picture by itself.

    - ``scene``: the probability of the right answer among four, to open questions about the scene ("Where is it?"),
      0 to 1, chance .25; ``scene_yes_no``: the same for the yes and no questions that the reward asks, chance .5. The
      base without its adapter looks; what it cannot see, it cannot miss (question answering about pictures: TIFA, Hu
      et al. 2023).
    - ``identity``: :func:`charforge.evaluate.identity.likeness` to the training pictures by the run's encoder;
      ``identity_tower`` by the base's vision tower, which no reward asks; ``likeness``: identity between the floor and
      the ceiling that ``real`` gives.
    - ``copy_rate``: :func:`charforge.judges.copies.copied`.
    - ``clip_t``: the cosine of picture and prompt by CLIP (Hessel et al. 2021), usually .2 to .35; only where the
      run's settings name a CLIP. It counts words and knows no order: "red coat, blue hat" is as good the other way.
    """
    shown = drawn.shown
    features = judges.encoder.encode(drawn.pictures).cpu()
    best, which = likeness(features, judges.references.features)
    looked = base.model.look_at(drawn.pictures)
    yes_no, by_kind = judge_scenes(base.model, looked.parts, shown)
    values = {
        "scene": torch.stack(list(by_kind.values())).nanmean(0),
        "scene_yes_no": yes_no,
        "identity": best,
        "identity_tower": nearest_similarity(looked.features.cpu(), judges.tower_references),
        "copy_rate": copied(drawn.pictures, best, judges.marks).float(),
    }
    if real is not None and real.scale is not None:
        values["likeness"] = real.scale.normalised(best)
    if judges.matcher is not None:
        values["clip_t"] = judges.matcher.similarity(drawn.pictures, [scene.prompt for scene in shown]).cpu()
    return Seen(values, features, which)


def per_scene(seen: Seen, each: int) -> dict[str, np.ndarray]:
    """One value a scene for each measure of its pictures; with several of a scene also their variety."""
    values = {name: value.view(-1, each).mean(1).numpy() for name, value in seen.values.items()}
    return values | ({"variety": variety(seen.features, each).numpy()} if each > 1 else {})


def scene_values(base: Base, judges: Judges, drawn: Drawn) -> dict[str, np.ndarray]:
    """:func:`see` and :func:`per_scene` in one."""
    return per_scene(see(base, judges, drawn), drawn.each)
