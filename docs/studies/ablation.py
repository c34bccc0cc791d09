"""Does expansion pay? The same run from the seeds alone, with the template's pairs, and with a language model's on top.

    python docs/studies/ablation.py OUT.jsonl examples/wren [more folders] --seeds 0 1
    python docs/studies/ablation.py OUT.jsonl examples/wren --arms endpoint --set expand.url=http://localhost:8000/v1 \
        --set expand.model=qwen
    python docs/studies/ablation.py OUT.jsonl --table

Texts only (pictures are drawn from the same captions in all arms). The held-out pairs are the same in all arms. For
each arm: perplexity of the held-out dialogues; share of right picks among multiple-choice questions about the character
(questions.json of the folder, or RoleScape's keyed test); balanced accuracy of yes/no questions about pictures that no
arm has seen, and of "Is this NAME?" about them and about strangers; how much of what a request for a picture asks is in
the plan of the reply. Same seed, same steps; the
seeds have nothing to study and give all of them to the voice. Needs the extra ``recipe``.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import draw_wren
import numpy as np
import torch

from charforge import grammar
from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import load_base
from charforge.character import Character, Picture, read_character
from charforge.evaluate.questions import balanced_accuracy, choices_right, read_choices, yes_no_right
from charforge.evaluate.requests import held_out_requests, request_values
from charforge.expand import ImagePart, Pair, TextPart, expand, vqa
from charforge.expand.authors import author_of
from charforge.recipe.drawing import draw
from charforge.recipe.world import random_mood, random_scene
from charforge.replay.shipped_pictures import own_captions
from charforge.resources import preset_path
from charforge.settings import Settings, read_settings
from charforge.train.checkpoints import load_best
from charforge.train.dataset import build_dataset, prepared_pictures, prepared_strangers
from charforge.train.sft import Hooks, held_out, train_sft
from charforge.train.trunk import texts_read_once

ASSIGNMENTS = ["sft.pictures=0", "sft.replay_pictures=0", "sft.preview_every=100000"]
UNSEEN = 12


def pairs_of(character: Character, arm: str, seed: int, scratch: Path, settings: Settings) -> list[Pair]:
    """The training pairs of one arm; the held-out ones are in all of them."""
    if arm in ("self", "endpoint"):
        asked = settings.expand.model_copy(update={"writer": arm})
        written = settings.model_copy(update={"expand": asked})
        author = author_of(character, written, scratch / "written.jsonl", lambda done, of: None)
        return expand(character, seed, author, strangers=own_captions("mini")).pairs
    template = expand(character, seed, strangers=own_captions("mini")).pairs
    if arm == "template":
        return template
    seeds = {dialogue.origin for dialogue in character.dialogues} | {f"picture {p.name}" for p in character.pictures}
    return [p for p in template if p.split == "held_out" or (p.origin in seeds and p.task != "vqa")]


def unseen(character: Character, scratch: Path) -> Character:
    """The character with pictures that no arm has seen: drawn anew where it is one of ours."""
    if character.name != draw_wren.NAME:
        return replace(character, pictures=())
    chooser, pictures = random.Random("unseen looks"), []
    for number in range(UNSEEN):
        look = random_mood(chooser, random_scene(chooser, draw_wren.WREN))
        file = scratch / f"unseen-{number}.png"
        draw(look, 512).save(file)
        pictures.append(Picture(file.stem, file, draw_wren.caption(look)))
    return replace(character, pictures=tuple(pictures))


def question_pair(picture: str, question: str, answer: str) -> Pair:
    """One question about a picture."""
    parts = (
        ImagePart(image=picture, use="look"),
        TextPart(role="user", text=question),
        TextPart(role="assistant", text=answer, loss=True),
    )
    return Pair(id=f"{picture} {question}", task="vqa", split="held_out", origin="ablation", parts=parts)


def measure(
    character: Character,
    arm: str,
    seed: int,
    questions: Path,
    scratch: Path,
    changed: list[str],
    first: int | None = None,
) -> dict[str, Any]:
    """Train one arm and score it, by the ``first`` so many questions of each kind only if that is given."""
    settings = read_settings(preset_path("mini"), None, [*ASSIGNMENTS, *changed], seed=seed)
    base, pairs, others = (
        load_base("mini"),
        pairs_of(character, arm, seed, scratch, settings),
        unseen(character, scratch),
    )
    template = expand(character, seed, strangers=own_captions("mini")).pairs
    used = {name for pair in template for name in pair.images("look")}
    strangers = [name for name in own_captions("mini") if name not in used][:UNSEEN]
    who = grammar.is_this(character.name)
    faces = [question_pair(p.name, who, "Yes.") for p in others.pictures] + [
        question_pair(name, who, "No.") for name in strangers
    ]
    looks = [pair for pair in template if pair.split == "held_out" and pair.task == "vqa"]
    looks += [
        question_pair(name, *pair) for name, made in vqa.questions(others, random.Random(0)).items() for pair in made
    ]
    pictures = prepared_pictures(base, character, scratch / "cache") | prepared_strangers(base, pairs + faces)
    pictures |= prepared_pictures(base, others, scratch / "unseen-cache") if others.pictures else {}
    data = build_dataset(base, pairs, pictures, settings.sft)
    shapes = base.model.shapes
    first_layer = settings.adapter.first_layer(shapes.layers)
    lora = lora_config(shapes, settings.adapter.rank, settings.adapter.alpha, first_layer=first_layer)
    parameters = add_adapter(base.model.network, lora, seed)
    if arm != "nothing":
        hooks = Hooks(lambda log: None, lambda judged, best: None, lambda step: None)
        folder = scratch / f"{character.name}-{arm}-{seed}"
        train_sft(
            base.model, parameters, texts_read_once(base.model, data, first_layer), settings.sft, seed, folder, hooks
        )
        load_best(parameters, folder / "best.safetensors")
    ce, _ = held_out(base.model, data, settings.sft)
    return {
        "pairs": sum(pair.split == "train" for pair in pairs),
        "perplexity": math.exp(ce),
        "knowledge": choices_right(base, grammar.system_prompt(character), read_choices(questions)[:first]),
        "looks": yes_no_right(base, looks[:first], pictures),
        "requests": request_values(base.model, held_out_requests(template)[:first], settings.chat).tolist(),
        "who": yes_no_right(base, faces[:first], pictures) if others.pictures else {},
    }


def keyed_questions(folder: Path) -> Path:
    """The multiple-choice questions that belong to a folder."""
    keyed = [Path(__file__).parent / f"{folder.name}_questions.json", *folder.glob("**/*_knowledge_qa_test.json")]
    found = next((path for path in keyed if path.exists()), None)
    if found is None:
        raise SystemExit(f"{folder} has no multiple-choice questions: write {keyed[0]}")
    return found


def figures_of(row: dict[str, Any]) -> dict[str, Any]:
    """A row's figures without the single answers."""
    figures = {"pairs": row["pairs"], "perplexity": round(row["perplexity"], 2)}
    for name in ("knowledge", "requests"):
        figures[name] = round(float(np.mean(row[name])), 3)
    return figures | {name: round(balanced_accuracy(row[name]), 3) for name in ("looks", "who") if row[name]}


def table(rows: list[dict[str, Any]]) -> None:
    """Figures of each arm over seeds, and knowledge against the seeds', paired by question, with 95 % intervals."""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        cells[row["character"], row["arm"]].append(row)
    for (character, arm), own in cells.items():
        figures = [figures_of(row) for row in own]
        means = {name: round(float(np.mean([f[name] for f in figures])), 3) for name in figures[0]}
        print(character, arm, f"{len(own)} seeds", means)
    rng = np.random.default_rng(0)
    for arm in dict.fromkeys(row["arm"] for row in rows if row["arm"] != "seeds"):
        gains = []
        for character in dict.fromkeys(row["character"] for row in rows):
            by_seed = {row["seed"]: row for row in cells[character, arm]}
            pairs = [(by_seed[r["seed"]], r) for r in cells[character, "seeds"] if r["seed"] in by_seed]
            if pairs:
                # one value a question: seeds of the same question are no independent draws
                gains.append(np.mean([np.subtract(a["knowledge"], b["knowledge"], dtype=float) for a, b in pairs], 0))
        if gains:
            values = np.concatenate(gains)
            resampled = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(4000)]
            low, high = np.quantile(resampled, (0.025, 0.975))
            print(f"{arm} less seeds, {len(values)} questions: {values.mean():+.3f} ({low:+.3f} to {high:+.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description="What expansion is worth.")
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=["nothing", "seeds", "template"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    parser.add_argument("--first", type=int, help="only so many questions of each kind")
    parser.add_argument("--table", action="store_true", help="only read OUT")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        for folder in [] if arguments.table else arguments.folders:
            character = read_character(folder)
            for arm in arguments.arms:
                with tempfile.TemporaryDirectory() as scratch:
                    row = measure(
                        character,
                        arm,
                        seed,
                        keyed_questions(folder),
                        Path(scratch),
                        arguments.assignments,
                        arguments.first,
                    )
                row = {"character": character.name, "arm": arm, "seed": seed, **row}
                with arguments.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(character.name, arm, seed, figures_of(row), flush=True)
    table([json.loads(line) for line in arguments.out.read_text("utf-8").splitlines()])


if __name__ == "__main__":
    main()
