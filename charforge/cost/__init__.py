"""What a run will cost, found by running its steps without memory: shapes go through the real code, nothing else."""

from __future__ import annotations

from charforge.bases.context import fitted
from charforge.bases.where import base_config
from charforge.character import Character
from charforge.cost.predicted import Cost, estimate
from charforge.cost.workload import workload
from charforge.device import chosen_device
from charforge.expand import expand
from charforge.replay.pictures import own_captions
from charforge.settings import Settings

__all__ = ["Cost", "cost_of"]


def cost_of(character: Character, settings: Settings, device: str | None = None) -> Cost:
    """Peaks and hours of training ``character`` on ``device`` (the best that is here unless given); bases larger than
    ``mini`` are always counted on a GPU.

    Loads no model. Raises InputError for a base that does not exist.
    """
    config = base_config(settings.base)
    character = fitted(character, settings)
    pairs = expand(character, settings.seed, strangers=own_captions(settings.base)).pairs
    # Apple's GPU shares the host's memory: counted as the CPU's is
    kind = "cuda" if settings.base != "mini" or chosen_device(device).startswith("cuda") else "cpu"
    return estimate(config, settings, workload(character, pairs, settings, config), kind)
