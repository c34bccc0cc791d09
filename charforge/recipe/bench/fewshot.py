"""Few-shot characters: ten renders each, the whole product trains them, new scenes are drawn and judged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charforge.bases.can_draw import KIND_NOUN
from charforge.bases.drawing import draw_prompts
from charforge.evaluate.measure import OpenRun, load_run
from charforge.families.protocol import UnifiedModel
from charforge.files import write_atomic
from charforge.judges.likeness import nearest_similarity
from charforge.pixels import to_pixels
from charforge.recipe.bench.scores import Tally, mean_share, read_attributes, shares, tally
from charforge.recipe.bench.unseen import Subject, choose_captions, identity_words, scene_words, stated_words, subject
from charforge.recipe.captions import named_caption
from charforge.recipe.drawing import draw
from charforge.recipe.probe import Probe
from charforge.run.job import train_character

CONTROLS = 16
"""Captions of other characters, drawn with the adapter on and off."""
SEED = 70_000
SAYINGS = (
    ("Where are you?", "Here. Where else would I be?"), ("What do you like?", "Quiet. And a good window."),
    ("Are you busy?", "A little. Sit down, I can listen."), ("What did you do today?", "I walked until it got dark."),
    ("Do you like rain?", "Only from inside."), ("Tell me something.", "I once lost a shoe in a river."),
)  # fmt: skip


@dataclass(frozen=True)
class FewShot:
    """Right and wrong by attribute in new scenes and in controls with the adapter on; which pictures are copies."""

    identity: Tally
    scene: Tally
    copies: list[bool]
    controls: Tally
    train_seconds: float


def write_folder(who: Subject, folder: Path) -> None:
    """The character as a user would bring it: pictures with short captions, a profile and a few dialogues."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, look in enumerate(who.shown, start=1):
        draw(look, 256).save(folder / f"images/{number:02d}.png")
        said = named_caption(look, who.name).split(", ", 2)[2]
        write_atomic(folder / f"images/{number:02d}.txt", said)
    noun = KIND_NOUN[who.look.kind]
    front = f"---\nname: {who.name}\nclass: {noun}\n---\n{who.name} is a {noun} who says little and means it.\n"
    write_atomic(folder / "character.md", front)
    lines = [
        json.dumps({"turns": [{"role": "user", "text": asked}, {"role": "character", "text": said}]})
        for asked, said in SAYINGS
    ]
    write_atomic(folder / "dialogues.jsonl", "\n".join(lines) + "\n")


def draw_pictures(model: UnifiedModel, prompts: list[str], first_seed: int) -> Tensor:
    """(prompts, 3, H, W) in [-1, 1], drawn as users draw, four at a time."""
    drawn: list[Tensor] = []
    for start in range(0, len(prompts), 4):
        part = prompts[start : start + 4]
        pictures = draw_prompts(model, part, [first_seed + start + row for row in range(len(part))])
        drawn += [to_pixels(picture, picture.size) for picture in pictures]
    return torch.stack(drawn)


def train_few_shot(number: int, probe: Probe, work: Path, overrides: list[str]) -> FewShot:
    """Train character ``number`` with the default preset (finished runs in ``work`` stay) and judge it."""
    who = subject(number)
    folder, run = work / who.name.lower(), work / f"{who.name.lower()}-run"
    if not (folder / "dialogues.jsonl").exists():
        write_folder(who, folder)
    result = train_character(folder, preset="mini", base=None, out=run, seed=number, overrides=overrides, quantize=None)
    return judge_character(who, probe, load_run(run, "cpu"), float(result.metrics["train_seconds"]))


def judge_character(who: Subject, probe: Probe, opened: OpenRun, train_seconds: float) -> FewShot:
    """New scenes and controls of a finished run."""
    model, judges = opened.base.model, opened.judges
    pictures = draw_pictures(model, [named_caption(look, who.name) for look in who.asked], SEED)
    found = read_attributes(probe, pictures)
    nearest = nearest_similarity(judges.encoder.encode(pictures).cpu(), judges.references)
    return FewShot(
        identity=tally(found, [identity_words(look) for look in who.asked]),
        scene=tally(found, [scene_words(look) for look in who.asked]),
        copies=(nearest > judges.references.copy).tolist(),
        controls=draw_controls(model, probe),
        train_seconds=train_seconds,
    )


def draw_controls(model: UnifiedModel, probe: Probe) -> Tally:
    """Captions of others as ``model`` draws them: what a character's adapter should not change."""
    asked = choose_captions(CONTROLS)
    pictures = draw_pictures(model, [text for _, text in asked], SEED)
    return tally(read_attributes(probe, pictures), [stated_words(look) for look, _ in asked])


def pool_characters(parts: list[FewShot], controls_off: Tally) -> dict[str, Any]:
    """The benchmark's few-shot numbers over all characters; ``controls_off`` are those of the bare base."""

    def pool(name: str) -> Tally:
        hits: Tally = {}
        for part in parts:
            for attribute, values in getattr(part, name).items():
                hits.setdefault(attribute, []).extend(values)
        return hits

    copies = [copy for part in parts for copy in part.copies]
    identity, scene = pool("identity"), pool("scene")
    return {
        "fewshot_identity": mean_share(identity),
        "fewshot_identity_by_attribute": shares(identity),
        "fewshot_scene": mean_share(scene),
        "fewshot_scene_by_attribute": shares(scene),
        "copy_rate": round(sum(copies) / len(copies), 4),
        "control_accuracy_adapter_on": mean_share(pool("controls")),
        "control_accuracy_adapter_off": mean_share(controls_off),
        "fewshot_characters": len(parts),
        "train_seconds": round(sum(part.train_seconds for part in parts) / len(parts), 1),
    }
