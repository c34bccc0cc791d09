"""Cost and speed. *Cost* is predicted: GiB and hours of a run, found by running its steps on shapes without memory.
*Speed* is measured: ``charforge bench``, a base of random weights through the real steps. (*Quality* is what
``charforge eval`` measures, in evaluate/.)"""

from __future__ import annotations

from charforge.bases.context import fitted
from charforge.bases.where import base_family, base_shapes
from charforge.character import Character
from charforge.cost.predicted import Cost, estimate
from charforge.cost.workload import workload
from charforge.device import chosen_device
from charforge.expand import expand
from charforge.replay.shipped_pictures import own_captions
from charforge.settings import Settings

__all__ = ["Cost", "cost_of"]


def cost_of(character: Character, settings: Settings, device: str | None = None) -> Cost:
    """Peaks and hours of training ``character`` on ``device`` (the best that is here unless given); bases larger than
    ``mini`` are always counted on a GPU.

    Loads no model. Raises InputError for a base that does not exist.
    """
    family, pictures = base_family(settings.base), settings.pictures
    shapes = base_shapes(settings.base).with_picture_sizes(
        pictures.longest_side, pictures.shortest_side, pictures.draw_side, pictures.draw_steps
    )
    character = fitted(character, settings)
    pairs = expand(character, settings.seed, strangers=own_captions(settings.base)).pairs
    # Apple's GPU shares the host's memory: counted as the CPU's is
    kind = "cuda" if settings.base != "mini" or chosen_device(device).startswith("cuda") else "cpu"
    return estimate(family, shapes, settings, workload(character, pairs, settings, shapes), kind)
