"""Does expansion pay? The same run from the seeds alone, with the template's pairs, and with the base's own on top.

    python examples/ablation.py OUT.json examples/wren [more folders]

Texts only (pictures are drawn from the same captions in all arms). The held-out pairs are the same in all arms. For
each arm: perplexity of the held-out dialogues, share of right picks among multiple-choice questions about the character
(questions.json of the folder, or RoleScape's keyed test), balanced accuracy of yes/no questions about the held-out
picture. Same seed, same steps.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path

import torch

from charforge import grammar
from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import load_base
from charforge.bases.own_pictures import own_captions
from charforge.character import Character, read_character
from charforge.evaluate.questions import choice_accuracy, read_choices, yes_no_accuracy
from charforge.expand import Pair, expand
from charforge.expand.authors import self_author
from charforge.resources import preset_path
from charforge.settings import read_settings
from charforge.train.dataset import build_dataset, prepared_pictures, prepared_strangers
from charforge.train.run import load_best
from charforge.train.sft import Hooks, held_out, train_sft

ASSIGNMENTS = ["sft.pictures=0", "sft.replay_pictures=0", "sft.preview_every=100000"]


def arms(character: Character, scratch: Path) -> dict[str, list[Pair]]:
    """The pairs of each arm; held-out ones are in all of them."""
    template = expand(character, strangers=own_captions("mini")).pairs
    seeds = {dialogue.origin for dialogue in character.dialogues} | {f"picture {p.name}" for p in character.pictures}
    own = [p for p in template if p.split == "held_out" or (p.origin in seeds and p.task not in ("vqa",))]
    author = self_author(character, "mini", scratch / "written.jsonl", 0, lambda done, of: None)
    authored = expand(character, author=author, strangers=own_captions("mini")).pairs
    return {"nothing trained": own, "seeds": own, "template": template, "self": authored}


def measure(character: Character, arm: str, pairs: list[Pair], questions: Path, scratch: Path) -> dict[str, float]:
    """Train one arm and score it."""
    settings = read_settings(preset_path("mini"), None, ASSIGNMENTS)
    base = load_base("mini")
    template = expand(character, strangers=own_captions("mini")).pairs
    pictures = prepared_pictures(base, character, scratch / "cache") | prepared_strangers(base, pairs)
    data = build_dataset(base, pairs, pictures, settings.sft)
    parameters = add_adapter(base.model, lora_config(settings.adapter.rank, settings.adapter.alpha), settings.seed)
    if arm != "nothing trained":
        hooks = Hooks(lambda log: None, lambda judged, best: None, lambda step: None)
        folder = scratch / f"{character.name}-{arm}"
        train_sft(base.model, parameters, data, settings.sft, settings.seed, folder, hooks)
        load_best(parameters, folder / "best.safetensors")
    ce, _ = held_out(base.model, data, settings.sft)
    looks = [pair for pair in template if pair.split == "held_out" and pair.task == "vqa"]
    return {
        "pairs": sum(pair.split == "train" for pair in pairs),
        "perplexity": round(math.exp(ce), 2),
        "knowledge": round(choice_accuracy(base, grammar.system_prompt(character), read_choices(questions)), 3),
        "vqa": round(yes_no_accuracy(base, looks, pictures), 3),
    }


def main() -> None:
    out, results = Path(sys.argv[1]), {}
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        for folder in map(Path, sys.argv[2:]):
            character = read_character(folder)
            keyed = [folder.parent / f"{folder.name}_questions.json", *folder.glob("**/*_knowledge_qa_test.json")]
            questions = next(path for path in keyed if path.exists())
            for arm, pairs in arms(character, Path(scratch)).items():
                row = measure(character, arm, pairs, questions, Path(scratch))
                results[f"{character.name}: {arm}"] = row
                print(character.name, arm, row, flush=True)
    out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
