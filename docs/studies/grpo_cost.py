"""What the second stage's economies are worth: ratios of one run on one machine.

    python docs/studies/grpo_cost.py

Rollout: siblings that share their start against siblings with a noise of their own, and those with guidance on every
step. Update: a window of two stochastic steps against learning from all of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from grpo_study import PUBLISHED

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import load_base
from charforge.bases.drawing import read_prompts
from charforge.character import read_character
from charforge.expand.scenes import write_new_scenes
from charforge.resources import preset_path
from charforge.settings import read_settings
from charforge.train.grpo import learn_from
from charforge.train.policy_gradient import policy_gradient
from charforge.train.rollout import roll_out

WREN = Path(__file__).parents[2] / "examples" / "wren"


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The fastest of some runs after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratios of the second stage's economies.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    grpo = read_settings(preset_path("mini"), None, [*PUBLISHED, *arguments.assignments]).grpo
    base = load_base("mini")
    model = base.model
    learn_from(model, add_adapter(model.network, lora_config(model.shapes, 16, 32), 0))
    scenes = write_new_scenes(read_character(WREN), 0)[: grpo.prompts]
    words = [scene.prompt for scene in scenes]
    prompts, canvas = read_prompts(model, words), model.canvas()
    rows = [row for row in range(grpo.prompts) for _ in range(grpo.group)]
    alone = grpo.model_copy(update={"group": 1})
    every = grpo.model_copy(update={"window": grpo.steps - 1, "window_last_start": 0})
    gains = torch.randn(len(rows), generator=torch.Generator().manual_seed(0))

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(1)

    def with_guidance() -> object:
        own = read_prompts(model, [words[row] for row in rows])
        noise = torch.randn(len(rows), *canvas.shape, generator=generator())
        return model.draw(own, noise, canvas, steps=grpo.steps)

    with model.autocast():
        rollouts = {
            "shared start, prompts read once": lambda: roll_out(model, prompts, canvas, grpo, generator()),
            "own noise each": lambda: roll_out(model, prompts.select(rows), canvas, alone, generator()),
            "own noise, own prompt, guidance on every step": with_guidance,
        }
        drawn = {name: seconds(work, arguments.repeats) for name, work in rollouts.items()}
        window = roll_out(model, prompts, canvas, grpo, generator())
        whole = roll_out(model, prompts, canvas, every, generator())

        def learn(rollout, settings) -> None:  # type: ignore[no-untyped-def]
            policy_gradient(model, prompts, rollout, gains, range(grpo.prompts), settings, grpo.micro_batch)

        updates = {
            f"window of {grpo.window} steps": lambda: learn(window, grpo),
            f"all {every.window} steps": lambda: learn(whole, every),
        }
        learned = {name: seconds(work, arguments.repeats) for name, work in updates.items()}
    for title, measured in (("rollout", drawn), ("update", learned)):
        first = next(iter(measured.values()))
        for name, value in measured.items():
            print(f"{title:8} {name:50} {value:7.2f} s  {len(rows) / value:6.1f} pictures/s  x {value / first:.2f}")
    ours = [next(iter(measured.values())) for measured in (drawn, learned)]
    plain = [list(measured.values())[-1] for measured in (drawn, learned)]
    print(f"together: plain / ours = {sum(plain) / sum(ours):.2f}")


if __name__ == "__main__":
    main()
