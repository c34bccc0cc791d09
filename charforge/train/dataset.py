"""From pairs and pictures to the samples a run trains on; what is expensive is computed once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from charforge.bases.base import Base
from charforge.character import Character, load_picture
from charforge.errors import InputError
from charforge.expand import Pair
from charforge.families.protocol import UnifiedModel
from charforge.files import sha256_file, write_atomic
from charforge.kinds import KINDS
from charforge.rendering import render
from charforge.replay.answers import replay_texts
from charforge.replay.drawings import replay_pictures
from charforge.replay.picture_answers import own_look, replay_looks
from charforge.replay.shipped_pictures import PREFIX, own_captions
from charforge.sample import Picture, target_of
from charforge.settings import SftSettings
from charforge.tensor_files import read_tensors, write_tensors
from charforge.train.samples import Dataset, Entry, alone

CACHE_FORMAT = 3


def prepared_pictures(base: Base, character: Character, cache: Path) -> dict[str, Picture]:
    """All pictures of the character by name, encoded. Cached by the hash of the base and of each file."""
    keys, model = {}, base.model
    # everything that decides what a file becomes
    how = f"{base.content_hash}:{base.precision}:{model.preparation}:{CACHE_FORMAT}"
    for picture in character.pictures:
        key = hashlib.sha256(f"{how}:{sha256_file(picture.path)}".encode()).hexdigest()[:24]
        file = cache / f"{key}.safetensors"
        if not file.exists():
            write_tensors(file, model.picture_tensors(model.prepare_picture(load_picture(picture.path))))
        keys[picture.name] = key
    # who they are, so that a run can be measured without the folder it came from
    write_atomic(cache / "pictures.json", json.dumps(keys, indent=1, ensure_ascii=False))
    return read_prepared(model, cache)


def read_prepared(model: UnifiedModel, cache: Path) -> dict[str, Picture]:
    """The pictures that :func:`prepared_pictures` left in ``cache``, by name."""
    prepared = {}
    for name, key in json.loads((cache / "pictures.json").read_text("utf-8")).items():
        state, _ = read_tensors(cache / f"{key}.safetensors", "remove it and run charforge train again")
        prepared[name] = model.picture_from(state)
    return prepared


def prepared_strangers(base: Base, pairs: list[Pair]) -> dict[str, Picture]:
    """The base's own pictures that ``pairs`` look at, by name, drawn from their latents."""
    used = {name for pair in pairs for name in pair.images("look") if name.startswith(PREFIX)}
    if not used:
        return {}
    own = dict(zip(own_captions(base.name), replay_pictures(base), strict=True))
    missing = sorted(used - set(own))
    if missing:
        raise InputError(f"the pairs name {missing[0]}, which the base {base.name} does not have: expand again")
    prepared = {}
    for name in sorted(used):
        target = target_of(own[name])
        assert target is not None
        prepared[name] = Picture(target, own_look(base, own[name]))
    return prepared


MakesOwn = Callable[[Base], list[Entry]]
OWN: Mapping[str, MakesOwn] = {
    "replay_texts": lambda base: alone(replay_texts(base)),
    "replay_looks": lambda base: [tuple(asked) for asked in replay_looks(base)],
    "replay_pictures": lambda base: alone(replay_pictures(base)),
}
"""What makes the kinds that no pair does: the base's own."""


def build_dataset(
    base: Base, pairs: list[Pair], pictures: dict[str, Picture], settings: SftSettings,
    own: Mapping[str, MakesOwn] = OWN,
) -> Dataset:  # fmt: skip
    """Samples of all pairs by kind, with the base's ``own`` where the settings ask for them."""
    entries: dict[str, list[Entry]] = {}
    for kind in KINDS:
        if kind.tasks:
            chosen = [pair for pair in pairs if pair.split == kind.split and pair.task in kind.tasks]
            entries[kind.name] = alone(render(pair, base.model, pictures) for pair in chosen)
        elif settings.count(kind):
            entries[kind.name] = own[kind.name](base)
    return Dataset(entries)


def quantised_tokens(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Latent tokens (n, t, values) as int8 and one scale: an eighth of a bit of noise at a quarter of the size."""
    scale = tokens.abs().max() / 127
    return (tokens / scale).round().to(torch.int8), scale
