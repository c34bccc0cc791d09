"""Where does the second stage pay? Hard scenes: three or four details, one of them a thing in the hands.

    python docs/studies/hard_scenes.py OUT.jsonl --characters 0 1 3 --seeds 0 1
    python docs/studies/hard_scenes.py OUT.jsonl --table

None of a character's ten pictures holds a thing. All arms of a character and seed begin at the same first stage
(pictures only) and are drawn from the same noise:

- ``sft``: that first stage; ``longer``: its loss for ``--seconds`` more at the second stage's rate;
- ``grpo``, ``awm``, ``best_of``: the three ways to learn from judged pictures;
- ``truth``: best_of, judged by the classifier of renders instead of the base's answers: what a judge that sees gives;
- ``limits``: no training, ``BEST_OF`` drawings of each scene: what choosing gives, whether the judge sees the thing;
- the levers: those of ``CHANGES`` that are named after what they change.

Time is the processor's. What OUT.jsonl holds is not done again: a run that was cut off goes on. Needs the extra
``recipe``.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from grpo_study import ONLY_PICTURES, PUBLISHED, Bench, asked_words, longer, prepare, second
from grpo_table import interval, paired
from torch import Tensor

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import load_base
from charforge.character import Character, read_character
from charforge.evaluate.measure import Drawn, draw_scenes, per_scene, see
from charforge.expand.scenes import Kind, Scene, scene_of
from charforge.judges.evidence import Evidence
from charforge.judges.scene import judge_scenes, scene_reward
from charforge.recipe import captions, world
from charforge.recipe.bench.fewshot import write_folder
from charforge.recipe.bench.unseen import Subject, identity_words, subject
from charforge.recipe.probe import SHIPPED, Probe, load_probe
from charforge.resources import preset_path
from charforge.settings import read_settings

THINGS, GARMENTS = list(world.THINGS)[:12], ("plain", "stripes", "hoodie", "jacket", "coat", "dress", "suit")
TRAIN, HELD_OUT, BEST_OF = 24, 12, 6
MAIN = ("sft", "longer", "grpo", "awm", "best_of")
CHANGES: dict[str, dict[str, object]] = {
    "grpo": {},
    "awm": {"algorithm": "awm", "anchor_pictures": 4},
    "best_of": {"algorithm": "best_of", "group": BEST_OF, "updates": 4, "anchor_pictures": 4},
    "truth": {"algorithm": "best_of", "group": BEST_OF, "updates": 4, "anchor_pictures": 4},
    "tail": {"tail": 2},
    "half": {"side": 64},
    "extremes": {"extremes": 2},
    "by_step": {"step_weights": "noise"},
    "together": {"tail": 2, "side": 64, "extremes": 2},
    "lean": {"tail": 2, "side": 64, "extremes": 2, "anchor_pictures": 4},
    "best_of_half": {"algorithm": "best_of", "group": BEST_OF, "updates": 4, "anchor_pictures": 4, "side": 64},
}
"""Settings of the section ``grpo`` by arm."""
MEASURES = ("right", "details", "thing", "scene", "scene_yes_no", "identity", "probe_identity", "copy_rate", "variety")


def detail_words(look: world.Look) -> dict[Kind, list[str]]:
    """What may be asked for, by kind, in the renderer's own words."""
    mouths = world.PERSON_MOUTHS if look.kind == "person" else world.CREATURE_MOUTHS[look.kind]
    eyes = world.PERSON_EYES if look.kind == "person" else world.CREATURE_EYES[look.kind]
    words: dict[Kind, list[str]] = {
        "thing": [f"holding {world.THINGS[thing]}" for thing in THINGS],
        "place": list(world.PLACES.values()),
        "mouth": list(mouths.values()),
        "eyes": [f"with {word}" for word in eyes.values() if word.endswith(" eyes")],
    }
    if look.kind == "person":
        looks = [world.Look("person", outfit=one, outfit_color=color) for one in GARMENTS for color in world.CLOTH]
        words["clothes"] = [f"wearing {captions.clothes_phrase(one)}" for one in looks]
    if captions.hides_eyes(look):
        del words["eyes"]
    return words


def hard_scenes(character: Character, look: world.Look, seed: int) -> list[Scene]:
    """Scenes to train on and to hold out: a thing held and two or three other details in turn. No two details of a
    held-out scene stand together in a training scene."""
    rng = random.Random(f"{character.name} {seed} hard scenes")
    words = detail_words(look)
    decks: dict[Kind, list[str]] = {kind: [] for kind in words}

    def dealt(kind: Kind) -> str:
        decks[kind] = decks[kind] or rng.sample(words[kind], len(words[kind]))
        return decks[kind].pop()

    others: list[Kind] = [kind for kind in words if kind != "thing"]
    pairs: set[tuple[str, str]] = set()
    scenes: list[Scene] = []
    for number in range(HELD_OUT + TRAIN):
        held_out = number < HELD_OUT
        kinds: list[Kind] = ["thing", *rng.sample(others, 2 + number % 2)]
        while True:
            details = [(kind, dealt(kind)) for kind in kinds]
            own = set(combinations(sorted(word for _, word in details), 2))
            if held_out or not own & pairs:
                break
        asked = [(kind, word, rng.sample(words[kind], len(words[kind]))) for kind, word in details]
        scene = scene_of(character, asked, number, rng)
        assert scene is not None
        if held_out:
            pairs |= own
            scene = scene.model_copy(update={"split": "held_out", "id": f"held_out-{number:02d}"})
        scenes.append(scene)
    return scenes


@torch.no_grad()
def seen_details(probe: Probe, pictures: Tensor, shown: list[Scene]) -> list[dict[str, bool]]:
    """Which of the asked details the classifier of renders sees in each picture."""
    logits = probe(pictures)

    def hit(name: str, words: str, row: int) -> bool:
        known = [value.removeprefix("with ") for value in probe.values[name]]
        return known[int(logits[name][row].argmax())] == words

    return [
        {name: hit(name, words, row) for name, words in asked_words(scene).items()} for row, scene in enumerate(shown)
    ]


def kept_identity(probe: Probe, pictures: Tensor, who: Subject) -> list[float]:
    """Share of the character's lasting attributes that the classifier sees in each picture."""
    wanted = identity_words(who.look)
    with torch.no_grad():
        logits = probe(pictures)
    rows = range(len(pictures))
    hits = [[probe.values[n][int(logits[n][row].argmax())] == words for n, words in wanted.items()] for row in rows]
    return [sum(row) / len(row) for row in hits]


def measured(bench: Bench, probe: Probe, who: Subject, drawn: Drawn) -> dict[str, list[float]]:
    """Every measure, one value a scene."""
    found = seen_details(probe, drawn.pictures, drawn.shown)
    truth = {
        "right": [float(all(row.values())) for row in found],
        "details": [sum(row.values()) / len(row) for row in found],
        "thing": [float(row["thing"]) for row in found],
        "probe_identity": kept_identity(probe, drawn.pictures, who),
    }
    values = per_scene(see(bench.base, bench.judges, drawn), drawn.each)
    means = {name: np.array(value).reshape(-1, drawn.each).mean(1) for name, value in truth.items()}
    return {name: [round(float(one), 4) for one in value] for name, value in (values | means).items()}


def limits(bench: Bench, probe: Probe) -> dict[str, list[float]]:
    """Of ``BEST_OF`` drawings of each scene, one value a picture: what is true of it and what the judge says."""
    bench.reset()
    drawn = draw_scenes(bench.base, bench.held, BEST_OF, lambda done, of: None)
    looks, model = bench.base.model.look_at(drawn.pictures).parts, bench.base.model
    found = seen_details(probe, drawn.pictures, drawn.shown)
    of_things = [
        scene.model_copy(update={"checks": tuple(check for check in scene.checks if check.kind == "thing")})
        for scene in drawn.shown
    ]
    everything, keyed = judge_scenes(model, looks, drawn.shown)
    return {
        "right": [float(all(row.values())) for row in found],
        "details": [sum(row.values()) / len(row) for row in found],
        "thing": [float(row["thing"]) for row in found],
        "judge": everything.tolist(),
        "judge_thing": scene_reward(model, looks, of_things).tolist(),
        "open_thing": keyed["thing"].tolist(),
    }


def true_judge(probe: Probe) -> AbstractContextManager[Any]:
    """Inside the block the reward for showing the scene is the share of its details that the classifier sees."""

    def shown(evidence: Evidence) -> Tensor:
        found = seen_details(probe, evidence.pictures.float().cpu(), list(evidence.scenes))
        return torch.tensor([sum(row.values()) / len(row) for row in found])

    return patch.object(Evidence, "scene", property(shown))


def train_arm(bench: Bench, arm: str, probe: Probe, iterations: dict[str, int], seconds: float) -> dict[str, Any]:
    """Train ``arm`` from the first stage's end. Returns its figures: processor seconds and the log."""
    if arm == "sft":
        bench.reset()
        return {}
    if arm == "longer":
        bench.second_seconds = seconds
        return longer(bench)
    changes = CHANGES[arm] | {"iterations": iterations.get(arm, iterations["grpo"])}
    usual = bench.settings
    bench.settings = usual.model_copy(update={"grpo": usual.grpo.model_copy(update=changes)})
    with true_judge(probe) if arm == "truth" else nullcontext():
        figures = second(bench, arm)
    bench.settings = usual
    return figures


def cells(characters: list[int], seeds: list[int]) -> Iterator[tuple[int, int]]:
    """All characters with the first seed, then with the next."""
    return ((number, seed) for seed in seeds for number in characters)


def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    base, probe = load_base("mini"), load_probe(SHIPPED)
    base.model.use_picture_sizes(None, None, None, arguments.steps)
    parameters = add_adapter(base.model.network, lora_config(base.model.shapes, 16, 32), 0)
    iterations = {name: int(count) for name, _, count in (one.partition("=") for one in arguments.iterations)}
    known = (
        [json.loads(line) for line in arguments.out.read_text("utf-8").splitlines()] if arguments.out.exists() else []
    )
    done = {(line["character"], line["seed"], line["arm"]) for line in known}
    for number, seed in cells(arguments.characters, arguments.seeds):
        who = subject(number)
        arms = [arm for arm in arguments.arms if (who.name, seed, arm) not in done]
        if not arms:
            continue
        folder = arguments.work / who.name.lower()
        write_folder(who, folder)
        settings = read_settings(
            preset_path("mini"), None, [*ONLY_PICTURES, *PUBLISHED, *arguments.assignments], seed=seed
        )
        character = read_character(folder)
        bench = prepare(base, parameters, character, settings, folder.with_name(f"{folder.name}-{seed}"))
        bench.scenes = hard_scenes(character, who.look, seed)
        bench.held_out = arguments.scenes
        for arm in arms:
            line: dict[str, Any] = {"character": who.name, "seed": seed, "arm": arm}
            if arm == "limits":
                line["pictures"] = limits(bench, probe)
            else:
                line |= train_arm(bench, arm, probe, iterations, arguments.seconds)
                drawn = draw_scenes(base, bench.held, arguments.each, lambda done, of: None)
                line["values"] = measured(bench, probe, who, drawn)
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            means = {name: round(sum(value) / len(value), 3) for name, value in line.get("values", {}).items()}
            print(who.name, seed, arm, round(line.get("seconds", 0)), means, flush=True)


# the table


def ranked_right(values: np.ndarray, truth: np.ndarray) -> float:
    """How often a judge says more of a picture that is right than of a sibling that is not: the area under the curve
    over pairs of one scene, the only ones that a group is judged by; both (scenes, siblings)."""
    right, wrong = truth[:, :, None] > 0.5, truth[:, None, :] < 0.5
    above = (values[:, :, None] > values[:, None, :]) + 0.5 * (values[:, :, None] == values[:, None, :])
    pairs = right & wrong
    return float(above[pairs].mean()) if pairs.any() else float("nan")


def table(lines: list[dict[str, Any]], control: str) -> None:
    """Each arm against ``control``, levers against grpo, paired by scene, with 95 % bootstrap intervals over scenes."""
    lists = [line for line in lines if "values" in line]
    start = [line for line in lists if line["arm"] == "sft"]
    print(f"{len(start)} characters and seeds; the first stage alone:")
    print("  " + ", ".join(f"{m} {np.mean([v for line in start for v in line['values'][m]]):.3f}" for m in MEASURES))
    for arm in dict.fromkeys(line["arm"] for line in lists):
        own = [line for line in lists if line["arm"] == arm]
        seconds = [line["seconds"] for line in own if "seconds" in line]
        against = control
        if arm in CHANGES and arm not in (*MAIN, "truth"):
            against = "best_of" if CHANGES[arm].get("algorithm") == "best_of" else "grpo"
        if arm == against:
            continue
        cost = f", {np.mean(seconds):.0f} processor seconds" if seconds else ""
        print(f"{arm} less {against} ({len(own)} cells{cost})")
        for measure in MEASURES:
            print(f"  {measure:15} {interval(paired(lists, arm, measure, against))}")
    chosen = [line["pictures"] for line in lines if line["arm"] == "limits"]
    if not chosen:
        return
    groups = {name: np.concatenate([one[name] for one in chosen]).reshape(-1, BEST_OF) for name in chosen[0]}
    best = groups["judge"].argmax(1), np.arange(len(groups["judge"]))
    print(
        f"{BEST_OF} drawings of each of {len(best[1])} scenes after the first stage: mean, best by judge, best by truth"
    )
    for name in ("right", "details", "thing"):
        value = groups[name]
        print(f"  {name:15} {value.mean():.3f} {value[best[1], best[0]].mean():.3f} {value.max(1).mean():.3f}")
    print(f"of {100 * (groups['thing'].max(1) == 0).mean():.0f} % of the scenes no drawing has the thing")
    print("how often a drawing with the thing is ranked above one of the same scene without it")
    for judge in ("judge", "judge_thing", "open_thing"):
        print(f"  {judge:15} {ranked_right(groups[judge], groups['thing']):.3f}")
    print("how often a drawing with everything is ranked above one of the same scene without")
    print(f"  {'judge':15} {ranked_right(groups['judge'], groups['right']):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="The second stage on hard scenes.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--table", action="store_true", help="print what OUT.jsonl says, compute nothing")
    parser.add_argument("--against", default="longer", choices=MAIN, help="the arm that others are compared with")
    parser.add_argument("--work", type=Path, default=Path("hard-scenes"))
    parser.add_argument("--characters", type=int, nargs="+", default=[0, 1, 3, 2, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--arms", nargs="+", default=list(MAIN), choices=[*MAIN, "limits", *list(CHANGES)[3:]])
    parser.add_argument("--iterations", nargs="+", default=["grpo=6"], metavar="ARM=N", help="others: as grpo")
    parser.add_argument("--seconds", type=float, default=90.0, help="processor time of the first stage continued")
    parser.add_argument("--steps", type=int, default=12, help="sampling steps of what is measured")
    parser.add_argument("--scenes", type=int, help="only so many held-out scenes")
    parser.add_argument("--each", type=int, default=3, help="pictures of a scene; variety needs two at least")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", dest="assignments", action="append", default=["sft.steps=60"])
    arguments = parser.parse_args()
    if arguments.table:
        table([json.loads(line) for line in arguments.out.read_text("utf-8").splitlines()], arguments.against)
    else:
        run(arguments)


if __name__ == "__main__":
    main()
