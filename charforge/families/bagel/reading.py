"""What the model finds likely after what it has read: log-likelihoods of texts, and logits of what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from charforge.families.bagel.context import Context
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.packing import Pack, pack
from charforge.families.bagel.splits import Split


def _laid_out(model: BagelModel, rows: Sequence[Sequence[Split]], after: Context | None) -> Pack:
    past = None if after is None or after.cache is None else (after.valid, after.understanding_valid)
    starts = None if after is None else after.positions
    return pack([list(row) for row in rows], model.config, past, starts).to(model.device)


def log_likelihoods(model: BagelModel, rows: Sequence[Sequence[Split]], after: Context | None) -> list[Tensor]:
    """Log-likelihood in nats of every supervised token, rows read in one pass; (tokens,) each, on the CPU."""
    batch = _laid_out(model, rows, after)
    logits = model(batch, None if after is None else after.cache).logits
    likelihoods = -F.cross_entropy(logits.float(), batch.labels, reduction="none")
    return list(likelihoods.cpu().split([sum(split.supervised for split in row) for row in rows]))


def last_logits(model: BagelModel, rows: Sequence[Sequence[Split]], after: Context | None) -> Tensor:
    """Logits (rows, vocabulary) in fp32 of what follows the last word of each row, whose last split is supervised."""
    batch = _laid_out(model, rows, after)
    counts = torch.tensor([sum(split.supervised for split in row) for row in rows])
    # a split of n words has n + 1 supervised positions, and the last of them predicts what follows the n-th word
    last = (counts.cumsum(0) - 1).to(model.device)
    batch = replace(batch, loss_rows=batch.loss_rows[last])
    return model(batch, None if after is None else after.cache).logits.float()
