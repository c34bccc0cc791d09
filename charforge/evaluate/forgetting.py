"""Has the base stayed who it was for everybody else?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from charforge.families.protocol import UnifiedModel
from charforge.sample import Sample
from charforge.train.losses import draw_noise

TIMES_SEED = 80_000


@torch.no_grad()
def text_rows(model: UnifiedModel, samples: Sequence[Sample]) -> np.ndarray:
    """(samples, 2): cross-entropy of each sample's supervised tokens, summed in nats, and their number."""
    rows = []
    with model.autocast():
        for sample in samples:
            total, count = model.text_loss([sample])
            rows.append((total.item(), count))
    return np.array(rows, dtype=float).reshape(-1, 2)


@torch.no_grad()
def picture_rows(model: UnifiedModel, samples: Sequence[Sample]) -> np.ndarray:
    """(samples, 2): squared error of the flow of each picture, summed over its tokens, and their number; at noise and
    times that are the same whenever they are drawn."""
    rows = []
    with model.autocast():
        for number, sample in enumerate(samples):
            noise = draw_noise([sample], 1.0, torch.Generator().manual_seed(TIMES_SEED + number))
            total, count = model.picture_loss([sample], noise, prompt_gradients=False)
            rows.append((total.item(), count))
    return np.array(rows, dtype=float).reshape(-1, 2)


def forgotten(rows: np.ndarray) -> float:
    """How much worse the model foresees what the bare base said or drew by itself: 0 is unchanged, .1 is 10 % worse.

    ``rows`` (samples, 4): loss and tokens with the adapter off, then with it on. Losses are means over all tokens.

    - Range: above -1; about 0 is wanted. Below 0 it foresees them better, which happens to what is replayed in
      training.
    - Source: the loss ratio of continual learning, on the base's own texts and pictures.
    - Caveat: these are the texts and pictures that training replays, so it is forgetting *in spite of* replay, on what
      was replayed. What the base was never asked may have changed more.
    """
    off, on = (rows[:, start].sum() / rows[:, start + 1].sum() for start in (0, 2))
    return float(on / off - 1)
