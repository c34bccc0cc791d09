"""What a run will cost, found by running its steps without memory: shapes go through the real code, nothing else."""

from __future__ import annotations

from charforge.bases.own_pictures import own_captions
from charforge.bases.where import base_config
from charforge.character import Character
from charforge.estimate.cost import Cost, estimate
from charforge.estimate.workload import workload
from charforge.expand import expand
from charforge.settings import Settings

__all__ = ["Cost", "cost_of"]


def cost_of(character: Character, settings: Settings) -> Cost:
    """Peaks and hours of training ``character``: on this machine's CPU for ``mini`` without a GPU, else on a GPU.

    Loads no model. Raises InputError for a base that does not exist.
    """
    import torch

    config = base_config(settings.base)
    pairs = expand(character, settings.seed, strangers=own_captions(settings.base)).pairs
    device = "cuda" if settings.base != "mini" or torch.cuda.is_available() else "cpu"
    return estimate(config, settings, workload(character, pairs, settings, config), device)
