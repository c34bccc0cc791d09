"""The frozen part of the understanding expert, computed once: what its lower layers make of every text of a run.

Where the adapter begins at a layer above the first, nothing below it ever changes. A text is then read by these layers
once, and every step goes on from what they made of it: forward and backward pass shrink to the layers that learn.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from charforge.bases.base import Base
from charforge.families.bagel.model import BagelModel, computes_in_bf16
from charforge.families.bagel.packing import pack
from charforge.families.bagel.prefixes import shared_rows, split_key
from charforge.families.bagel.splits import LookSplit, Split, TextSplit, Trunk
from charforge.progress import counting
from charforge.sample import Sample, Target
from charforge.train.sft import Dataset

KINDS = ("dialogues", "requests", "knowledge", "looks", "replay_texts", "held_out_texts")
AT_A_TIME = 32
"""Samples in a pass. Fixed: on some processors a product depends on its number of rows, and a run that goes on must
get the same bits as the run that it continues."""


def texts_read_once(base: Base, data: Dataset, layers: int) -> Dataset:
    """``data`` with what the first ``layers`` layers make of each text; pictures to draw are left as they are."""
    if layers == 0:
        return data
    alone = [getattr(data, kind) for kind in KINDS]
    everything = [sample for group in (*alone, *data.replay_looks) for sample in group]
    made: list[Sample] = []
    with counting("reading the texts through the layers that do not learn") as report:
        for start in range(0, len(everything), AT_A_TIME):
            made += samples_with_trunks(base.model, everything[start : start + AT_A_TIME], layers)
            report(len(made), len(everything))
    rest = iter(made)
    changed = {kind: [next(rest) for _ in getattr(data, kind)] for kind in KINDS}
    return replace(data, **changed, replay_looks=[[next(rest) for _ in asked] for asked in data.replay_looks])


@torch.no_grad()
def samples_with_trunks(model: BagelModel, samples: Sequence[Sample], layers: int) -> list[Sample]:
    """The same samples, each text and picture to look at with its trunk; a picture to draw is left as it is."""
    readable = [[part for part in sample if not isinstance(part, Target)] for sample in samples]
    rows = shared_rows(readable, model.config.understanding.hidden_size)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=computes_in_bf16(model)):
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
    parts: list[TextSplit | LookSplit | Target] = []
    place: Hashable = None
    for part in sample:
        if not isinstance(part, Target):
            place = _place(place, part)
            # a piece of the pass's memory would keep all of it
            part = replace(part, trunk=Trunk(layers, known[place].clone()))
        parts.append(part)
    return tuple(parts)
