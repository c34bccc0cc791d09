"""The processes of a job beside the first: they read what it has prepared, add their gradients, and write nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from charforge.adapter.lora import add_adapter, lora_config
from charforge.character import Character
from charforge.device import chosen_device
from charforge.expand import read_pairs
from charforge.expand.scenes import read_scenes
from charforge.judges.judges import load_judges
from charforge.progress import say_line
from charforge.run.second_stage import trained_names
from charforge.run.shared import SharedBase
from charforge.settings import Settings
from charforge.train.checkpoints import load_best
from charforge.train.dataset import build_dataset, prepared_strangers, read_prepared
from charforge.train.grpo import GrpoHooks, train_grpo
from charforge.train.interrupt import Interruption
from charforge.train.memory import Memory, memory_of_second_stage
from charforge.train.sft import Hooks, train_sft
from charforge.train.team import Team
from charforge.train.trunk import texts_read_once

NOTHING_BESIDE = Hooks(lambda log: None, lambda result, best: None, lambda step: None)
NOTHING_BESIDE_SECOND = GrpoHooks(lambda log: None, lambda result, best: None, lambda iteration: None)


@dataclass(frozen=True)
class Errand:
    """What the first process asks the others to help with: the stages that are left to do of ``run``."""

    run: Path
    both: bool


def lend_a_hand(team: Team, character: Character, settings: Settings, device: str | None) -> Path | None:
    """Train beside the first process, in the run that it names; returns that run, None where nothing is left to do.

    Raises TeamBroken when another process of the job ends early, Interrupted where a signal has reached one of them.
    """
    errand: Errand | None = team.told(None)
    if errand is None:
        return None
    run = errand.run
    pairs = read_pairs(run / "pairs" / "pairs.jsonl")
    with SharedBase().lent(settings, chosen_device(device)) as (loaded, own), Interruption(together=True) as stop:
        model = loaded.model
        pictures = read_prepared(model, run / "cache") | prepared_strangers(loaded, pairs)
        first_layer = settings.adapter.first_layer(model.shapes.layers)
        data = texts_read_once(model, build_dataset(loaded, pairs, pictures, settings.sft, own), first_layer)
        config = lora_config(model.shapes, settings.adapter.rank, settings.adapter.alpha, first_layer=first_layer)
        parameters = add_adapter(model.network, config, settings.seed)
        if settings.memory.park_encoders:
            model.park_encoders()
        model.use_cuda_graphs(settings.memory.cuda_graphs)
        if settings.memory.compile_layers:
            model.compile_layers()
        memory = Memory(model, settings.memory, say_line)
        folder = run / "checkpoints"
        train_sft(model, parameters, data, settings.sft, settings.seed, folder, NOTHING_BESIDE, memory, stop, team)
        if errand.both:
            # the first process measures and packs what was learned, and says when it goes on
            team.told(None)
            load_best(parameters, folder / "best.safetensors")
            scenes = read_scenes(run / "pairs" / "scenes.jsonl")
            references = {name: pictures[name] for name in trained_names(character, pairs)}
            judges = load_judges(model, settings.reward, references)
            second = memory_of_second_stage(model, settings, say_line)
            train_grpo(
                model, parameters, data, scenes, judges, settings, folder / "grpo", NOTHING_BESIDE_SECOND, second, stop,
                team,
            )  # fmt: skip
    return run
