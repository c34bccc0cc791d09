"""From pairs and pictures to the samples a run trains on; what is expensive is computed once and kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from charforge.bagel.layers import grid_position_ids
from charforge.bagel.packing import LookSplit
from charforge.bases.base import MINI, Base
from charforge.bases.prepare import prepare_picture
from charforge.character import Character, load_picture
from charforge.expand import Pair
from charforge.files import sha256_file, write_atomic_with
from charforge.sample import Picture, Sample, Target, render
from charforge.settings import SftSettings
from charforge.train.sft import Dataset


def prepared_pictures(base: Base, character: Character, cache: Path) -> dict[str, Picture]:
    """All pictures of the character, encoded. Cached by the hash of the base and of each file."""
    prepared = {}
    for picture in character.pictures:
        key = hashlib.sha256(f"{base.content_hash}:{sha256_file(picture.path)}".encode()).hexdigest()[:24]
        file = cache / f"{key}.safetensors"
        if not file.exists():
            made = prepare_picture(base, load_picture(picture.path))
            state = {
                "x0": made.target.x0,
                "position_ids": made.target.position_ids,
                "patches": made.look.patches,
                "patch_position_ids": made.look.position_ids,
            }
            contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
            write_atomic_with(file, lambda path, state=contiguous: save_file(state, path))  # type: ignore[misc]
        state = load_file(file)
        target = Target(state["x0"], state["position_ids"])
        prepared[picture.name] = Picture(target, LookSplit(state["patches"], state["patch_position_ids"]))
    return prepared


def build_dataset(base: Base, pairs: list[Pair], pictures: dict[str, Picture], settings: SftSettings) -> Dataset:
    """Samples of all pairs by kind and split, with the base's own for replay."""

    def samples(split: str, *tasks: str) -> list[Sample]:
        chosen = [pair for pair in pairs if pair.split == split and pair.task in tasks]
        return [render(pair, base.tokenizer, pictures) for pair in chosen]

    drawn = ("text_to_image", "roleplay_picture")
    return Dataset(
        dialogues=samples("train", "roleplay_text"),
        knowledge=samples("train", "knowledge"),
        looks=samples("train", "vqa"),
        pictures=samples("train", *drawn),
        replay_texts=read_replay_texts(base) if settings.replay_texts else [],
        replay_pictures=read_replay_pictures(base) if settings.replay_pictures else [],
        # the voice is judged on replies alone
        held_out_texts=samples("held_out", "roleplay_text"),
        held_out_pictures=samples("held_out", "text_to_image"),
    )


def read_replay_pictures(base: Base) -> list[Sample]:
    """The base's own captioned latents (``mini`` ships them as int8 with one scale)."""
    file = MINI / "replay.safetensors"
    if base.name != "mini" or not file.exists():
        return []
    state = load_file(file)
    with safe_open(file, framework="pt") as opened:
        captions = json.loads(opened.metadata()["captions"])
    side = round(state["tokens"].shape[1] ** 0.5)
    ids = grid_position_ids(side, side, base.config.max_latent_size)
    tokens = state["tokens"].float() * state["scale"]
    return [
        (base.tokenizer.text(caption), Target(latent, ids)) for caption, latent in zip(captions, tokens, strict=True)
    ]


def read_replay_texts(base: Base) -> list[Sample]:
    """Questions with the bare base's own answers, so that training does not unlearn them."""
    file = MINI / "replay_texts.jsonl"
    if base.name != "mini" or not file.exists():
        return []
    samples: list[Sample] = []
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        samples.append(
            (
                base.tokenizer.text(row["question"], "user"),
                base.tokenizer.text(row["answer"], "assistant", loss=True),
            )
        )
    return samples


def quantised_tokens(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Latent tokens (n, t, values) as int8 and one scale: an eighth of a bit of noise at a quarter of the size."""
    scale = tokens.abs().max() / 127
    return (tokens / scale).round().to(torch.int8), scale
