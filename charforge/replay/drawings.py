"""Pictures that a base draws itself, kept for replay: training on ten pictures of one must not change all others.

``mini`` ships its own; any other base draws once, before its first character, and every character trained on it shares
the result (method.md section 2: without replay every person turns into the character).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from charforge.bases.base import Base
from charforge.bases.drawing import draw_target
from charforge.progress import counting
from charforge.replay.cache import cached_folder
from charforge.replay.shipped_pictures import own_captions, own_pictures_file
from charforge.sample import Sample, Target
from charforge.tensor_files import read_tensors, write_tensors

SEED = 70_000
# who and what a character's pictures could swallow: people and animals of all kinds, and places without any
_WHO = (
    "a young woman", "an old man", "a boy", "a girl with red hair", "a man with a beard", "a grandmother",
    "a dog", "a white cat", "a horse", "a robot", "a dragon", "an anime girl", "a cartoon fox", "a knight",
)  # fmt: skip
_WHERE = (
    "in a kitchen", "on a beach", "in a forest", "in a busy street", "in a library", "in the snow", "on a mountain",
    "in front of a plain wall",
)  # fmt: skip
_STYLES = ("a photo of", "a painting of", "an illustration of")
_PLACES = (
    "a city at night",
    "a bowl of fruit",
    "a lighthouse by the sea",
    "a red car",
    "an empty classroom",
    "a garden",
)


def scenes() -> list[tuple[str, str, str]]:
    """Style, what and where of each picture that a base draws of its own: every being once, places without one."""
    beings = [(_STYLES[index % len(_STYLES)], who, _WHERE[(3 * index) % len(_WHERE)]) for index, who in enumerate(_WHO)]
    return beings + [(_STYLES[index % len(_STYLES)], place, "") for index, place in enumerate(_PLACES)]


def prompts() -> list[str]:
    """The same as captions."""
    return [" ".join(filter(None, scene)) for scene in scenes()]


def replay_pictures(base: Base) -> list[Sample]:
    """The base's own captioned latents: shipped with ``mini``, drawn once and cached for any other base."""
    file = own_pictures_file(base.name)
    if file is not None:
        state, captions = load_file(file), list(own_captions(base.name).values())
        side = round(state["tokens"].shape[1] ** 0.5)
        targets = [base.model.drawn_target(x0, side, side) for x0 in state["tokens"].float() * state["scale"]]
    else:
        drawn = _ensure_drawn(base)
        state, metadata = read_tensors(drawn, "remove it: the base draws its pictures again")
        captions = json.loads(metadata["captions"])
        targets = [Target(x0, state["position_ids"]) for x0 in state["tokens"]]
    return [(base.model.text(caption), target) for caption, target in zip(captions, targets, strict=True)]


def _ensure_drawn(base: Base) -> Path:
    """The file of drawings, drawn first where there is none."""
    file = cached_folder(base) / "pictures.safetensors"
    if file.exists():
        return file
    wanted, targets = prompts(), []
    with counting(f"first character on {base.name}: it draws pictures of its own for replay") as report:
        for index, prompt in enumerate(wanted):
            targets.append(draw_target(base.model, prompt, SEED + index))
            report(index + 1, len(wanted))
    state = {"tokens": torch.stack([target.x0 for target in targets]), "position_ids": targets[0].position_ids}
    write_tensors(file, state, {"captions": json.dumps(wanted)})
    return file
