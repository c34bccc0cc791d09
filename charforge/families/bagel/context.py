"""A context that grows by text and pictures, and one denoising velocity after it (bagel.md 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.decoder import KeyValue
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.packing import Pack, pack, repeat_row, with_noise
from charforge.families.bagel.splits import LatentSplit, Split, TextSplit


@dataclass(frozen=True)
class Context:
    """Cached keys and values of a batch of conversations.

    ``cache``: per layer keys and values (rows, cached, kv_heads, head_dim). ``valid`` (rows, cached) marks real
    entries of layers with both experts, ``understanding_valid`` those of the others. ``positions``: next rotary
    position of each row; it counts differently from the cache because a picture advances it by one.
    """

    cache: list[KeyValue] | None
    valid: Tensor
    understanding_valid: Tensor
    positions: tuple[int, ...]

    @property
    def rows(self) -> int:
        return len(self.positions)

    @property
    def tokens(self) -> int:
        """Of the longest row, padding included."""
        return self.valid.shape[1]

    def select(self, rows: Sequence[int]) -> Context:
        """Its rows picked, repeated or reordered."""
        index = torch.tensor(rows)
        cache = self.cache
        if cache is not None:
            device_index = index.to(cache[0][0].device)
            cache = [(k[device_index], v[device_index]) for k, v in cache]
        positions = tuple(self.positions[row] for row in rows)
        return Context(cache, self.valid[index], self.understanding_valid[index], positions)


def empty_context(rows: int = 1) -> Context:
    """A conversation that has not begun."""
    nothing = torch.zeros(rows, 0, dtype=torch.bool)
    return Context(None, nothing, nothing, (0,) * rows)


def join_contexts(first: Context, second: Context) -> Context:
    """The rows of both as one batch; the shorter cache is filled up with entries that nobody may look at."""
    known = first.cache or second.cache
    cache = None
    if known is not None:
        ones, others = (
            context.cache or [(k.new_zeros(context.rows, 0, *k.shape[2:]),) * 2 for k, _ in known]
            for context in (first, second)
        )
        cache = [
            (_stacked(k, other_k), _stacked(v, other_v))
            for (k, v), (other_k, other_v) in zip(ones, others, strict=True)
        ]
    return Context(
        cache,
        _stacked(first.valid, second.valid),
        _stacked(first.understanding_valid, second.understanding_valid),
        first.positions + second.positions,
    )


def without_common_gap(context: Context, config: BagelConfig) -> Context:
    """The same without the entries in front that no row may look at: they filled up shorter rows beside one that is
    gone."""
    gaps = [_gap(context.valid), _gap(context.understanding_valid)]
    cache = context.cache
    if cache is not None:
        cuts = [gaps[0] if config.has_generation(index) else gaps[1] for index in range(len(cache))]
        cache = [(k[:, cut:], v[:, cut:]) for (k, v), cut in zip(cache, cuts, strict=True)]
    return Context(cache, context.valid[:, gaps[0] :], context.understanding_valid[:, gaps[1] :], context.positions)


def _gap(valid: Tensor) -> int:
    seen = valid.any(0).nonzero()
    return int(seen[0]) if len(seen) else valid.shape[1]


def _stacked(one: Tensor, other: Tensor) -> Tensor:
    """Rows of (rows, cached, ...) tensors below each other, both filled up in front to the longer one's length."""
    longest = max(one.shape[1], other.shape[1])
    rest = (0, 0) * (one.ndim - 2)
    return torch.cat([F.pad(part, (*rest, longest - part.shape[1], 0)) for part in (one, other)])


def _advance(split: Split) -> int:
    return split.length if isinstance(split, TextSplit) else 1


def _block(config: BagelConfig, context: Context, splits: Sequence[Split]) -> Pack:
    past = (context.valid, context.understanding_valid) if context.cache is not None else None
    return pack([[split] for split in splits], config, past, context.positions)


def _grow(context: Context, batch: Pack, fresh: list[KeyValue], positions: tuple[int, ...]) -> Context:
    """``batch`` as it was laid out, on the host: who may look at whom is kept there, and nothing is read back."""
    joint, lonely = batch.layout.joint, batch.layout.understanding_only
    filled = torch.zeros(joint.rows * joint.length, dtype=torch.bool)
    filled[joint.understanding_slots] = True
    filled[joint.generation_slots] = True
    valid = torch.cat([context.valid, filled.view(joint.rows, -1)], dim=1)
    understanding_valid = valid
    if lonely is not None:
        filled = torch.zeros(lonely.rows * lonely.length, dtype=torch.bool)
        filled[lonely.understanding_slots] = True
        understanding_valid = torch.cat([context.understanding_valid, filled.view(lonely.rows, -1)], dim=1)
    if context.cache is None:
        cache = fresh
    else:
        cache = [
            (torch.cat([k, new_k], dim=1), torch.cat([v, new_v], dim=1))
            for (k, v), (new_k, new_v) in zip(context.cache, fresh, strict=True)
        ]
    return Context(cache, valid, understanding_valid, positions)


def extend_context(model: BagelModel, context: Context, splits: Sequence[Split]) -> Context:
    """Append one split (text, picture to look at, clean latents) to each row.

    Raises ValueError when the number of splits is not the number of rows.
    """
    if len(splits) != context.rows:
        raise ValueError(f"{len(splits)} splits for {context.rows} rows")
    batch = _block(model.config, context, splits)
    fresh = model(batch.to(model.device), context.cache).cache
    positions = tuple(p + _advance(split) for p, split in zip(context.positions, splits, strict=True))
    return _grow(context, batch, fresh, positions)


@dataclass(frozen=True)
class NoisedBlock:
    """A prepared denoising block: the same layout is used at every step, only values and time change."""

    batch: Pack
    context: Context


def prepare_block(model: BagelModel, context: Context, position_ids: Tensor) -> NoisedBlock:
    """Lay out one noised picture (latent positions (n,)) per row after ``context``."""
    blank = torch.zeros(position_ids.shape[0], model.config.latent_token_size)
    one = pack([[LatentSplit(blank, position_ids, 1.0)]], model.config)
    past = (context.valid, context.understanding_valid) if context.cache is not None else None
    return NoisedBlock(repeat_row(one, context.positions, past).to(model.device), context)


def velocity(model: BagelModel, block: NoisedBlock, latents: Tensor, timesteps: Tensor) -> Tensor:
    """Predicted velocity (rows, n, values) of ``latents`` (rows, n, values) at ``timesteps`` (rows,)."""
    rows, n, values = latents.shape
    batch = with_noise(block.batch, latents.reshape(rows * n, values), timesteps.repeat_interleave(n))
    # nothing in the block is supervised text; drop the output head
    batch = replace(batch, loss_rows=batch.loss_rows[:0])
    return model(batch, block.context.cache).velocity.view(rows, n, values)
