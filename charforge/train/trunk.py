"""The frozen part of the understanding expert, computed once: what its lower layers make of every text of a run.

Where the adapter begins at a layer above the first, nothing below it ever changes. A text is then read by these layers
once, and every step goes on from what they made of it: forward and backward pass shrink to the layers that learn.
"""

from __future__ import annotations

from dataclasses import replace

from charforge.families.protocol import UnifiedModel
from charforge.progress import counting
from charforge.sample import Sample
from charforge.train.sft import Dataset

KINDS = ("dialogues", "requests", "knowledge", "looks", "replay_texts", "held_out_texts")
AT_A_TIME = 32
"""Samples in a pass. Fixed: on some processors a product depends on its number of rows, and a run that goes on must
get the same bits as the run that it continues."""


def texts_read_once(model: UnifiedModel, data: Dataset, layers: int) -> Dataset:
    """``data`` with what the first ``layers`` layers make of each text; pictures to draw are left as they are."""
    if layers == 0:
        return data
    alone = [getattr(data, kind) for kind in KINDS]
    everything = [sample for group in (*alone, *data.replay_looks) for sample in group]
    made: list[Sample] = []
    with counting("reading the texts through the layers that do not learn") as report:
        for start in range(0, len(everything), AT_A_TIME):
            with model.autocast():
                made += model.read_frozen_layers(everything[start : start + AT_A_TIME], layers)
            report(len(made), len(everything))
    rest = iter(made)
    changed = {kind: [next(rest) for _ in getattr(data, kind)] for kind in KINDS}
    return replace(data, **changed, replay_looks=[[next(rest) for _ in asked] for asked in data.replay_looks])
