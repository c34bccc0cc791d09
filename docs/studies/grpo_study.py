"""Does the second stage pay? Rendered characters, first stage against both, and against the two honest controls.

    python docs/studies/grpo_study.py OUT.jsonl

Arms for each character and seed, all from the same first stage: ``sft``; ``grpo``; ``sft_longer``, the first stage's
loss for as many seconds as the second took; ``best_of``, no training, the best of six by the reward. Others with
``--arms``: ``nft``, ``sde``, ``bf16`` masters, ``no_PART`` for a reward part. Everyone draws as users draw. ``probe_*``
are judged by a classifier trained on renders, which no reward asks. Needs the extra ``recipe``.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import Base, load_base
from charforge.character import Character, read_character
from charforge.evaluate.measure import Drawn, draw_scenes, scene_values
from charforge.expand import expand
from charforge.expand.scenes import Scene, write_new_scenes
from charforge.files import write_atomic
from charforge.judges.judges import Judges, load_judges
from charforge.judges.scene import scene_reward
from charforge.recipe import world
from charforge.recipe.bench.fewshot import write_folder
from charforge.recipe.bench.unseen import identity_words, subject
from charforge.recipe.probe import SHIPPED, Probe, load_probe
from charforge.resources import preset_path
from charforge.run.second_stage import trained_names
from charforge.settings import Settings, read_settings, settings_toml
from charforge.train.dataset import build_dataset, prepared_pictures
from charforge.train.grpo import GrpoHooks, IterationLog, train_grpo
from charforge.train.sft import Dataset, Hooks, train_sft

BEST_OF, BEST_SCENES = 6, 6
PUBLISHED = ["grpo.algorithm=grpo", "grpo.updates=2", "grpo.anchor_pictures=8"]
"""GRPO as the built-in settings have it: the preset `mini` learns in another way."""
ONLY_PICTURES = [
    *("sft.study_share=0", "sft.dialogues=0", "sft.requests=0", "sft.knowledge=0", "sft.looks=0"),
    *("sft.replay_texts=0", "sft.replay_looks=0"),
]


# what the probe sees


def asked_words(scene: Scene) -> dict[str, str]:
    """A scene's details in the probe's words."""
    found: dict[str, str] = {}
    for check in scene.keyed:
        words = check.options[check.right].rstrip(".")
        words = words[0].lower() + words[1:]
        if check.kind == "clothes":
            color = next(color for color in world.CLOTH if re.search(rf"\b{color}\b", words))
            garment = re.sub(r"^an? ", "a ", " ".join(words.replace(color, "").split()))
            found |= {"color": color, "outfit": garment}
        else:
            found[{"place": "where"}.get(check.kind, check.kind)] = words
    return found


@torch.no_grad()
def probe_values(probe: Probe, drawn: Drawn, look: world.Look) -> dict[str, list[float]]:
    """Per scene: share of asked details that the probe sees, and share of identity attributes that are kept."""
    logits = probe(drawn.pictures)

    def hit(name: str, words: str, row: int) -> float:
        known = [re.sub(r"^with ", "", value) for value in probe.values[name]]
        return float(known[int(logits[name][row].argmax())] == words)

    kept = identity_words(look)
    scenes, identity = [], []
    for row, scene in enumerate(drawn.shown):
        asked = [hit(name, words, row) for name, words in asked_words(scene).items()]
        scenes.append(sum(asked) / len(asked))
        identity.append(sum(hit(name, words, row) for name, words in kept.items()) / len(kept))

    def per_scene(values: list[float]) -> list[float]:
        return torch.tensor(values).view(-1, drawn.each).mean(1).tolist()

    return {"probe_scene": per_scene(scenes), "probe_identity": per_scene(identity)}


def judged(base: Base, judges: Judges, probe: Probe, look: world.Look, drawn: Drawn) -> dict[str, list[float]]:
    """Every measure, one value a scene."""
    values = scene_values(base, judges, drawn)
    return {name: value.tolist() for name, value in values.items()} | probe_values(probe, drawn, look)


# arms


@dataclass
class Bench:
    """One character and seed with its trained first stage."""

    base: Base
    parameters: dict[str, nn.Parameter]
    start: dict[str, Tensor]
    data: Dataset
    scenes: list[Scene]
    judges: Judges
    settings: Settings
    folder: Path
    held_out: int | None = None
    """How many of the held-out scenes; None: all."""
    second_seconds: float = 0.0

    @property
    def held(self) -> list[Scene]:
        return [scene for scene in self.scenes if scene.split == "held_out"][: self.held_out]

    def reset(self) -> None:
        """Back to the end of the first stage."""
        for name, parameter in self.parameters.items():
            parameter.data = self.start[name].clone()
            parameter.requires_grad_(True)


def silent() -> Hooks:
    return Hooks(lambda log: None, lambda result, best: None, lambda step: None)


def prepare(
    base: Base, parameters: dict[str, nn.Parameter], character: Character, settings: Settings, folder: Path
) -> Bench:
    """Train the first stage (pictures only) and load the judges."""
    config = folder / "settings.toml"
    if config.exists() and config.read_text("utf-8") != settings_toml(settings):
        raise SystemExit(f"{folder} holds checkpoints of other settings: name another folder with --work")
    write_atomic(config, settings_toml(settings))
    pairs = expand(character, settings.seed).pairs
    pictures = prepared_pictures(base, character, folder / "cache")
    data = build_dataset(base, pairs, pictures, settings.sft)
    fresh = torch.Generator().manual_seed(settings.seed)
    for name, parameter in parameters.items():
        zero = torch.zeros_like(parameter)
        bound = parameter.shape[-1] ** -0.5
        drawn = (torch.rand(parameter.shape, generator=fresh) * 2 - 1) * bound
        parameter.data = zero if "lora_B" in name else drawn
        parameter.requires_grad_(True)
    train_sft(base.model, parameters, data, settings.sft, settings.seed, folder / "sft", silent())
    start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    known = {name: pictures[name] for name in trained_names(character, pairs)}
    judges = load_judges(base.model, settings.reward, known)
    scenes = write_new_scenes(character, settings.seed)
    return Bench(base, parameters, start, data, scenes, judges, settings, folder)


def second(bench: Bench, arm: str) -> dict[str, Any]:
    """Train the second stage in the variant ``arm``; the last iteration stays in the model, nothing is picked."""
    bench.reset()
    settings, judges = bench.settings, bench.judges
    if arm == "nft":
        settings = settings.model_copy(update={"grpo": settings.grpo.model_copy(update={"algorithm": "nft"})})
    elif arm == "sde":
        changed = settings.grpo.model_copy(update={"noise": "sde", "noise_level": 1.3})
        settings = settings.model_copy(update={"grpo": changed})
    elif arm.startswith("no_") and arm != "no_anchor":
        reward = settings.reward.model_copy(update={arm.removeprefix("no_"): 0.0})
        settings, judges = settings.model_copy(update={"reward": reward}), replace(judges, settings=reward)
    elif arm == "no_anchor":
        settings = settings.model_copy(update={"grpo": settings.grpo.model_copy(update={"anchor": 0.0})})
    elif arm == "bf16":
        for parameter in bench.parameters.values():
            parameter.data = parameter.data.bfloat16()
    logs: list[dict[str, Any]] = []
    # evaluations are the study's own: the loop's would only cost time
    settings = settings.model_copy(
        update={"grpo": settings.grpo.model_copy(update={"evaluate_every": 1000, "held_out_pictures": 2})}
    )
    # time is the processor's: cells of the study may share a machine
    began, clock = time.process_time(), [time.process_time()]

    def on_iteration(log: IterationLog) -> None:
        logs.append(asdict(log) | {"cpu_seconds": time.process_time() - clock[0]})
        clock[0] = time.process_time()

    hooks = GrpoHooks(on_iteration, lambda result, best: None, lambda number: None)
    result = train_grpo(
        bench.base.model, bench.parameters, bench.data, bench.scenes, judges, settings, bench.folder / arm, hooks
    )
    # the first iteration's share holds loading and the measurement before it
    seconds = sum(log["cpu_seconds"] for log in logs[1:]) * len(logs) / max(1, len(logs) - 1)
    if arm == "grpo":
        bench.second_seconds = seconds
    return {"seconds": seconds, "all_seconds": time.process_time() - began, "ended": result.ended, "log": logs}


def longer(bench: Bench) -> dict[str, Any]:
    """The first stage goes on at the second's rate for as many seconds."""
    bench.reset()
    sft = bench.settings.sft.model_copy(
        update={"picture_learning_rate": bench.settings.grpo.learning_rate, "warmup": 5, "evaluate_every": 10_000}
    )
    times: list[float] = []
    spent, clock = bench.folder / "longer", [time.process_time()]

    def on_step(log: Any) -> None:
        times.append(time.process_time() - clock[0])
        clock[0] = time.process_time()

    steps = 4
    hooks = Hooks(on_step, lambda result, best: None, lambda step: None)
    # in pieces, because how many steps fit is not known before
    while sum(times) < bench.second_seconds:
        pace = sum(times) / len(times) if times else 0.0
        steps += max(1, int((bench.second_seconds - sum(times)) / pace)) if pace else 0
        sft = sft.model_copy(update={"steps": steps, "checkpoint_every": 10_000})
        train_sft(bench.base.model, bench.parameters, bench.data, sft, bench.settings.seed + 1, spent, hooks)
    return {"seconds": sum(times), "steps": len(times)}


def best_of(bench: Bench) -> Drawn:
    """No training: of ``BEST_OF`` pictures of a scene the one whose checks the reward likes best."""
    bench.reset()
    scenes = bench.held[:BEST_SCENES]
    drawn = draw_scenes(bench.base, scenes, BEST_OF, lambda done, of: None)
    looks = bench.base.model.look_at(drawn.pictures).parts
    scored = scene_reward(bench.base.model, looks, drawn.shown).view(-1, BEST_OF)
    rows = torch.arange(len(scored)) * BEST_OF + scored.argmax(1)
    return Drawn(scenes, drawn.pictures[rows], 1)


def run_arm(bench: Bench, arm: str, each: int) -> tuple[dict[str, Any], Drawn]:
    """Train the arm from the first stage's end and draw ``each`` pictures of every held-out scene."""
    if arm == "best_of":
        return {}, best_of(bench)
    figures: dict[str, Any] = {}
    if arm == "sft":
        bench.reset()
    elif arm == "sft_longer":
        figures = longer(bench)
    else:
        figures = second(bench, arm)
    return figures, draw_scenes(bench.base, bench.held, each, lambda done, of: None)


def main() -> None:
    parser = argparse.ArgumentParser(description="The second stage against its controls.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--probe", type=Path, default=SHIPPED)
    parser.add_argument("--work", type=Path, default=Path("grpo-study"))
    parser.add_argument("--characters", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=["sft", "grpo", "sft_longer", "best_of"])
    parser.add_argument("--scenes", type=int, help="only so many held-out scenes")
    parser.add_argument("--each", type=int, default=1, help="pictures of a scene; variety needs two at least")
    parser.add_argument("--bare-above", type=float, help="cfg_bare_above while drawing; 1: guidance as published")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    base, probe = load_base("mini"), load_probe(arguments.probe)
    if arguments.bare_above is not None:
        network: Any = base.model.network
        sampling = network.config.sampling.model_copy(update={"cfg_bare_above": arguments.bare_above})
        network.config = network.config.model_copy(update={"sampling": sampling})
    parameters = add_adapter(base.model.network, lora_config(base.model.shapes, 16, 32), 0)
    for seed in arguments.seeds:
        for number in arguments.characters:
            who = subject(number)
            folder = arguments.work / who.name.lower()
            write_folder(who, folder)
            chosen = [*ONLY_PICTURES, "sft.steps=60", *arguments.assignments]
            settings = read_settings(preset_path("mini"), None, [*PUBLISHED, *chosen], seed=seed)
            bench = prepare(
                base, parameters, read_character(folder), settings, folder.with_name(f"{folder.name}-{seed}")
            )
            bench.held_out = arguments.scenes
            for arm in arguments.arms:
                figures, drawn = run_arm(bench, arm, arguments.each)
                values = judged(base, bench.judges, probe, who.look, drawn)
                line = {"character": who.name, "seed": seed, "arm": arm, **figures, "values": values}
                with arguments.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                means = {name: round(sum(value) / len(value), 3) for name, value in values.items()}
                print(who.name, seed, arm, {k: round(v) for k, v in figures.items() if "sec" in k}, means, flush=True)


if __name__ == "__main__":
    main()
