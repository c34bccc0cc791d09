"""Can the second stage learn anything from its reward? How siblings differ, and whether the reward sees it.

    python docs/studies/reward_signal.py 5

Draws groups of six for a rendered character's training scenes after the first stage, in several ways. ``probe`` is the
share of asked details that a classifier trained on renders sees (things held are left out: ``mini`` does not draw
them); ``best`` the mean over groups of the picture that the probe likes best, ``by reward`` of the one that the scene
reward likes best. No room above the mean, or no correlation, and there is nothing to gain. Needs the extra ``recipe``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from grpo_study import BEST_OF, ONLY_PICTURES, PUBLISHED, Bench, prepare, probe_values
from torch import Tensor

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import load_base
from charforge.bases.drawing import read_prompts
from charforge.character import read_character
from charforge.evaluate.measure import Drawn, draw_scenes
from charforge.expand.scenes import Scene
from charforge.judges.judges import advantages
from charforge.judges.published import group_diversity
from charforge.judges.rewards.variety import leave_one_out_variety
from charforge.judges.scene import scene_reward
from charforge.recipe.bench.fewshot import write_folder
from charforge.recipe.bench.unseen import subject
from charforge.recipe.probe import SHIPPED, load_probe
from charforge.resources import preset_path
from charforge.settings import GrpoSettings, read_settings
from charforge.train.rollout import roll_out


@torch.no_grad()
def rolled_out(bench: Bench, scenes: list[Scene], grpo: GrpoSettings) -> Tensor:
    """Pictures (scenes * group, 3, H, W) as the second stage draws them."""
    model, pictures = bench.base.model, []
    prompts, canvas = read_prompts(model, [scene.prompt for scene in scenes]), model.canvas()
    for row in range(len(scenes)):
        generator = torch.Generator().manual_seed(row)
        with model.autocast():
            rollout = roll_out(model, prompts.select([row]), canvas, grpo, generator)
        pictures.append(model.decode(rollout.latents, canvas))
    return torch.cat(pictures)


def signal(probed: Tensor, reward: Tensor) -> str:
    """One line of figures; both (scenes, group)."""
    centred, paid = probed - probed.mean(1, keepdim=True), reward - reward.mean(1, keepdim=True)
    correlation = (centred * paid).sum() / (centred.norm() * paid.norm()).clamp(min=1e-9)
    chosen = probed.gather(1, reward.argmax(1, keepdim=True)).mean()
    return (
        f"probe {probed.mean():.3f} (inside a group +-{centred.pow(2).mean().sqrt():.3f}), "
        f"reward {reward.mean():.3f} (+-{paid.pow(2).mean().sqrt():.3f}), correlation {correlation:.2f}; "
        f"best of {probed.shape[1]} {probed.max(1).values.mean():.3f}, by reward {chosen:.3f}"
    )


def variety(bench: Bench, pictures: Tensor, reward: Tensor) -> str:
    """What a variety term does to the advantages of the scene reward: the published one, and ours (same weight)."""
    features = bench.judges.encoder.encode(pictures).cpu().view(-1, BEST_OF, bench.judges.references.features.shape[1])
    published = group_diversity(1 - features @ features.transpose(1, 2))
    paid = reward >= reward.view(-1, BEST_OF).mean(1).repeat_interleave(BEST_OF)
    ours = leave_one_out_variety(features.flatten(0, 1), BEST_OF, paid)
    without, _ = advantages(reward, BEST_OF, clip=5.0)
    moved = [(advantages(reward + term, BEST_OF, clip=5.0)[0] - without).abs() for term in (published, ours)]
    return f"variety moves the advantages by {moved[0].mean():.6f} as published and by {moved[1].mean():.3f} as ours"


def main() -> None:
    parser = argparse.ArgumentParser(description="What the reward sees of the differences between siblings.")
    parser.add_argument("character", type=int, help="number of a benchmark character; 0 to 4 are the study's own")
    parser.add_argument("--work", type=Path, default=Path("reward-signal"))
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    base, probe, who = load_base("mini"), load_probe(SHIPPED), subject(arguments.character)
    folder = arguments.work / who.name.lower()
    write_folder(who, folder)
    settings = read_settings(
        preset_path("mini"), None, [*ONLY_PICTURES, "sft.steps=60", *PUBLISHED, *arguments.assignments]
    )
    grpo = settings.grpo.model_copy(update={"group": BEST_OF})
    parameters = add_adapter(base.model.network, lora_config(base.model.shapes, 16, 32), 0)
    bench = prepare(base, parameters, read_character(folder), settings, folder.with_name(f"{folder.name}-trained"))
    bench.reset()
    scenes = [scene for scene in bench.scenes if scene.split == "train"][: arguments.scenes]
    ways = {
        "as the preset": rolled_out(bench, scenes, grpo),
        "branching at the first step": rolled_out(bench, scenes, grpo.model_copy(update={"window_last_start": 0})),
        "as users draw": draw_scenes(base, scenes, BEST_OF, lambda done, of: None).pictures,
    }
    shown = [scene for scene in scenes for _ in range(BEST_OF)]
    drawable = [s.model_copy(update={"keyed": tuple(c for c in s.keyed if c.kind != "thing")}) for s in shown]
    for way, pictures in ways.items():
        probed = torch.tensor(probe_values(probe, Drawn(drawable, pictures, 1), who.look)["probe_scene"])
        reward = scene_reward(base.model, base.model.look_at(pictures).parts, shown)
        print(f"{way}: {signal(probed.view(-1, BEST_OF), reward.view(-1, BEST_OF))}", flush=True)
        print(f"    {variety(bench, pictures, reward)}", flush=True)


if __name__ == "__main__":
    main()
