"""The processes of a job beside the first: they read what it has prepared, add their gradients, and write nothing."""

from __future__ import annotations

from pathlib import Path

from charforge.adapter.lora import add_adapter, lora_config
from charforge.device import chosen_device
from charforge.expand import read_pairs
from charforge.progress import say_line
from charforge.run.shared import SharedBase
from charforge.settings import Settings
from charforge.train.dataset import build_dataset, prepared_strangers, read_prepared
from charforge.train.interrupt import Interruption
from charforge.train.memory import Memory
from charforge.train.sft import Hooks, train_sft
from charforge.train.team import Team
from charforge.train.trunk import texts_read_once

NOTHING_BESIDE = Hooks(lambda log: None, lambda result, best: None, lambda step: None)


def lend_a_hand(team: Team, settings: Settings, device: str | None) -> Path | None:
    """Train the first stage beside the first process, in the run that it names; None where nothing is left to do.

    Raises TeamBroken when another process of the job ends early, Interrupted where a signal has reached one of them.
    """
    told = team.told(None)
    if told is None:
        return None
    run = Path(told)
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
        if settings.memory.compile_layers:
            model.compile_layers()
        memory = Memory(model, settings.memory, say_line)
        folder = run / "checkpoints"
        train_sft(model, parameters, data, settings.sft, settings.seed, folder, NOTHING_BESIDE, memory, stop, team)
    return run
