"""Rollouts and runs of a tiny base, for tests of the second stage."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny import CONFIG, tiny_data, tiny_model
from tiny_base import SCENES, tiny_judges

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.drawing import read_prompts
from charforge.families.results import Conditioning
from charforge.train.grpo import (
    GrpoHooks,
    train_grpo,
)
from charforge.train.interrupt import Interruption
from charforge.train.rollout import Rollout, roll_out

LORA = lora_config(CONFIG, rank=4, alpha=8)
TRAIN = [scene for scene in SCENES if scene.split == "train"]


def quiet() -> GrpoHooks:
    return GrpoHooks(lambda log: None, lambda result, best: None, lambda number: None)


def lively(model, seed: int = 1) -> dict[str, torch.nn.Parameter]:
    """An adapter that does something: B is not zero."""
    parameters = add_adapter(model.network, LORA, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters.values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    return parameters


def prompts_of(model, count: int) -> Conditioning:
    return read_prompts(model, [scene.prompt for scene in TRAIN[:count]])


def rollout_of(model, settings, seed: int = 0) -> tuple[Rollout, Conditioning]:
    prompts = prompts_of(model, settings.grpo.prompts)
    generator = torch.Generator().manual_seed(seed)
    return roll_out(model, prompts, model.canvas(), settings.grpo, generator), prompts


def run(
    folder: Path, settings, seed: int = 0, stop_at: int | None = None, tell=lambda line: None,
    stop: Interruption | None = None, on_log=lambda log: None, on_preview=lambda number: None,
):  # fmt: skip
    model = tiny_model()
    parameters = lively(model)
    frozen = {name: p.detach().clone() for name, p in parameters.items() if "_moe_gen" not in name}
    logs: list = []

    def on_iteration(log) -> None:
        logs.append(log)
        on_log(log)
        if log.iteration == stop_at:
            raise KeyboardInterrupt

    hooks = GrpoHooks(on_iteration, lambda result, best: None, on_preview, tell)
    settings = settings.model_copy(update={"seed": seed})
    result = train_grpo(model, parameters, tiny_data(), SCENES, tiny_judges(model), settings, folder, hooks, stop=stop)
    assert all((parameters[name] == value).all() for name, value in frozen.items())
    return result, logs, parameters
