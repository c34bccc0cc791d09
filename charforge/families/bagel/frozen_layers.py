"""The frozen part of the understanding expert, computed once: what its lower layers make of a text.

Where the adapter begins at a layer above the first, nothing below it ever changes. A text is then read by these layers
once, and every step goes on from what they made of it: forward and backward pass shrink to the layers that learn.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.packing import pack
from charforge.families.bagel.prefixes import shared_rows, split_key
from charforge.families.bagel.splits import LookSplit, Split, TextSplit, Trunk, splits_of
from charforge.sample import Part, Sample


@torch.no_grad()
def samples_with_trunks(model: BagelModel, samples: Sequence[Sample], layers: int) -> list[Sample]:
    """The same samples, each text and picture to look at with its trunk; a picture to draw is left as it is."""
    readable = [splits_of(sample) for sample in samples]
    rows = shared_rows(readable, model.config.understanding.hidden_size)
    batch = pack(readable, model.config, share=True).to(model.device)
    und, gen = model.embed_understanding(batch), model.embed_latents(batch)
    hidden, _, _ = model.language_model.model.run(und, gen, batch.layout, None, range(layers))
    pieces = iter(hidden.cpu().split([node.split.length for row in rows for node in row]))
    known: dict[Hashable, Tensor] = {}
    for row in rows:
        places: list[Hashable] = []
        for node in row:
            places.append(_place(places[node.parent] if node.parent >= 0 else None, node.split))
            known[places[-1]] = next(pieces)
    return [_with_trunk(sample, known, layers) for sample in samples]


def _place(before: Hashable, split: Split) -> Hashable:
    """Equal for splits that compute the same after beginnings that compute the same."""
    key = split_key(split)
    return before, id(split) if key is None else key


def _with_trunk(sample: Sample, known: dict[Hashable, Tensor], layers: int) -> Sample:
    parts: list[Part] = []
    place: Hashable = None
    for part in sample:
        if isinstance(part, TextSplit | LookSplit):
            place = _place(place, part)
            # a piece of the pass's memory would keep all of it
            part = replace(part, trunk=Trunk(layers, known[place].clone()))
        parts.append(part)
    return tuple(parts)
