"""The frozen part of the understanding expert, computed once: what its lower layers make of every text of a run.

Where the adapter begins at a layer above the first, nothing below it ever changes. A text is then read by these layers
once, and every step goes on from what they made of it: forward and backward pass shrink to the layers that learn.
"""

from __future__ import annotations

from charforge.families.protocol import UnifiedModel
from charforge.kinds import KINDS
from charforge.progress import counting
from charforge.sample import Sample
from charforge.train.samples import Dataset

AT_A_TIME = 32
"""Samples in a pass. Fixed: on some processors a product depends on its number of rows, and a run that goes on must
get the same bits as the run that it continues."""


def texts_read_once(model: UnifiedModel, data: Dataset, layers: int) -> Dataset:
    """``data`` with what the first ``layers`` layers make of each text; pictures to draw are left as they are."""
    if layers == 0:
        return data
    texts = [kind.name for kind in KINDS if kind.loss == "text"]
    everything = [sample for name in texts for sample in data.samples(name)]
    made: list[Sample] = []
    with counting("reading the texts through the layers that do not learn") as report:
        for start in range(0, len(everything), AT_A_TIME):
            with model.autocast():
                made += model.read_frozen_layers(everything[start : start + AT_A_TIME], layers)
            report(len(made), len(everything))
    rest = iter(made)
    read = {name: [tuple(next(rest) for _ in entry) for entry in data.of(name)] for name in texts}
    return Dataset({**data.entries, **read})
