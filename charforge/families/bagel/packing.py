"""Samples into one packed pass: tokens, positions, and who may look at whom (bagel.md section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate

import torch
from torch import Tensor

from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.decoder import Grid, Layout
from charforge.families.bagel.prefixes import Node, chain, shared_rows
from charforge.families.bagel.splits import LatentSplit, LookSplit, Mode, Split, TextSplit


@dataclass(frozen=True)
class Pack:
    """One forward pass worth of samples. Understanding tokens are numbered in order of appearance.

    ``*_rows`` index the packed understanding stream; ``loss_rows``/``labels`` are the supervised text positions,
    ``noised_rows`` index the generation stream. ``features`` stands in for the patches when all pictures have theirs,
    ``trunk`` (understanding tokens, H_u) for everything below ``first_layer`` when all splits have theirs.
    """

    text_ids: Tensor
    text_rows: Tensor
    patches: Tensor
    patch_position_ids: Tensor
    patch_lengths: list[int]
    patch_rows: Tensor
    latents: Tensor
    latent_position_ids: Tensor
    timesteps: Tensor
    noised_rows: Tensor
    loss_rows: Tensor
    labels: Tensor
    layout: Layout
    features: Tensor | None = None
    trunk: Tensor | None = None
    first_layer: int = 0

    def to(self, device: torch.device | str) -> Pack:
        """The same pack with all tensors on ``device``."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if _is_tensor(self, f.name)}
        layout = replace(
            self.layout,
            understanding_positions=self.layout.understanding_positions.to(device),
            generation_positions=self.layout.generation_positions.to(device),
            joint=_grid_to(self.layout.joint, device),
            understanding_only=self.layout.understanding_only and _grid_to(self.layout.understanding_only, device),
        )
        return replace(self, **moved, layout=layout)


def _is_tensor(pack: Pack, name: str) -> bool:
    return isinstance(getattr(pack, name), Tensor)


def _grid_to(grid: Grid, device: torch.device | str) -> Grid:
    moved = {f.name: getattr(grid, f.name).to(device) for f in fields(grid) if f.name not in ("rows", "length")}
    return replace(grid, **moved)


@dataclass
class _Row:
    """Tokens of one row of attention in order: stream and rotary position of each, and how many each split has.

    ``ends`` is the rotary position after each split: where the split that follows it begins.
    """

    nodes: list[Node]
    is_latent: list[bool]
    positions: list[int]
    lengths: list[int]
    ends: list[int]

    def add(self, is_latent: Sequence[bool], positions: Sequence[int] | range, end: int) -> None:
        """The tokens of the next split."""
        self.lengths.append(len(is_latent))
        self.is_latent += is_latent
        self.positions += positions
        self.ends.append(end)

    def mask(self) -> Tensor:
        """Boolean (tokens, tokens): who may look at whom. A split sees itself, from its own token backwards where it is
        causal, and what stands before it but for noised pictures. Splits that share a beginning do not see each other.
        """
        ends = list(accumulate(self.lengths))
        spans = [slice(end - length, end) for end, length in zip(ends, self.lengths, strict=True)]
        modes = [split_mode(node.split) for node in self.nodes]
        seen = torch.zeros(ends[-1], ends[-1], dtype=torch.bool)
        # split by split: compared token by token, two pictures of 1,024 pixels took half a second
        for own, (span, mode) in enumerate(zip(spans, modes, strict=True)):
            seen[span, span] = True
            if mode == "causal":
                seen[span, span].tril_()
            above = self.nodes[own].parent
            while above >= 0:
                if modes[above] != "noise":
                    seen[span, spans[above]] = True
                above = self.nodes[above].parent
        return seen


def split_mode(split: Split) -> Mode:
    """How a split attends inside: text is causal, pictures are full, noised latents also hide from what follows."""
    if isinstance(split, TextSplit):
        return "causal"
    return "noise" if isinstance(split, LatentSplit) and split.noised else "full"


def pack(
    samples: Sequence[Sequence[Split]], config: BagelConfig, past: tuple[Tensor, Tensor] | None = None,
    starts: Sequence[int] | None = None, share: bool = False,
) -> Pack:  # fmt: skip
    """Lay out ``samples``, each an ordered list of splits, for one pass.

    ``past`` = boolean validity (rows, cached) of the joint and of the understanding-only cache: every new token sees
    every valid cached one. ``starts`` = first rotary position of each sample (0 without cache).
    With ``share`` what samples have in common at their beginning is computed once; labels then come row by row, not
    sample by sample. Raises ValueError for an empty sample, and for ``share`` behind a cache.
    """
    if share and (past is not None or starts is not None):
        raise ValueError("samples behind a cache are rows of their own: they cannot share a beginning")
    for index, sample in enumerate(samples):
        if not sample:
            raise ValueError(f"sample {index} is empty")
    tokens = config.special_tokens
    text_ids: list[int] = []
    text_rows: list[int] = []
    patch_rows: list[int] = []
    noised_rows: list[int] = []
    loss_rows: list[int] = []
    labels: list[int] = []
    looks: list[LookSplit] = []
    latents: list[LatentSplit] = []
    rows: list[_Row] = []
    und_count = gen_count = 0
    forest = shared_rows(samples, config.understanding.hidden_size) if share else [chain(each) for each in samples]
    for index, nodes in enumerate(forest):
        row = _Row(nodes, [], [], [], [])
        start = starts[index] if starts is not None else 0
        for node in nodes:
            split = node.split
            position = row.ends[node.parent] if node.parent >= 0 else start
            if isinstance(split, TextSplit):
                ids = [*[tokens.bos] * split.opens, *split.ids, *[tokens.eos] * split.closes]
                text_rows += range(und_count, und_count + len(ids))
                if split.loss:
                    loss_rows += range(und_count, und_count + len(ids) - 1)
                    labels += ids[1:]
                    if split.after_eos is not None:
                        loss_rows.append(und_count + len(ids) - 1)
                        labels.append(split.after_eos)
                text_ids += ids
                und_count += len(ids)
                row.add([False] * len(ids), range(position, position + len(ids)), position + len(ids))
                continue
            is_latent = isinstance(split, LatentSplit)
            count = split.position_ids.shape[0]
            text_ids += [tokens.image_start, tokens.image_end]
            # a noised picture advances nothing: its clean copy takes the same position (bagel.md section 8.5)
            end = position if isinstance(split, LatentSplit) and split.noised else position + 1
            row.add([False] + [is_latent] * count + [False], [position] * (count + 2), end)
            if isinstance(split, LatentSplit):
                text_rows += [und_count, und_count + 1]
                und_count += 2
                if split.noised:
                    noised_rows += range(gen_count, gen_count + count)
                gen_count += count
                latents.append(split)
            else:
                text_rows += [und_count, und_count + count + 1]
                patch_rows += range(und_count + 1, und_count + count + 1)
                und_count += count + 2
                looks.append(split)
        rows.append(row)
    trunk, first_layer = _trunk([node.split for nodes in forest for node in nodes])
    vision_values = config.vision.patch_size**2 * 3
    return Pack(
        text_ids=torch.tensor(text_ids),
        text_rows=torch.tensor(text_rows),
        patches=_cat([look.patches for look in looks], vision_values),
        patch_position_ids=_cat([look.position_ids for look in looks]),
        patch_lengths=[look.position_ids.shape[0] for look in looks],
        patch_rows=torch.tensor(patch_rows, dtype=torch.long),
        latents=_cat([latent.tokens for latent in latents], config.latent_token_size),
        latent_position_ids=_cat([latent.position_ids for latent in latents]),
        timesteps=_cat([torch.full((latent.position_ids.shape[0],), latent.timestep) for latent in latents]).float(),
        noised_rows=torch.tensor(noised_rows, dtype=torch.long),
        loss_rows=torch.tensor(loss_rows, dtype=torch.long),
        labels=torch.tensor(labels, dtype=torch.long),
        layout=_layout(rows, config, past),
        features=_features(looks),
        trunk=trunk,
        first_layer=first_layer,
    )


def with_noise(batch: Pack, tokens: Tensor, timesteps: Tensor) -> Pack:
    """The same layout with other latent values and times (every step of sampling, every draw of training)."""
    return replace(batch, latents=tokens, timesteps=timesteps)


def repeat_row(one: Pack, starts: Sequence[int], past: tuple[Tensor, Tensor] | None) -> Pack:
    """``one``, a single noised picture laid out at position 0 without a cache, as one row for each of ``starts``.

    The same as :func:`pack` makes of equal rows with ``starts`` and ``past``, without going through them one by one.
    """
    rows, layout = len(starts), one.layout
    und, gen = len(layout.understanding_positions), len(layout.generation_positions)
    begins = torch.tensor(starts)
    lonely = layout.understanding_only
    return replace(
        one,
        text_ids=one.text_ids.repeat(rows),
        text_rows=_shifted(one.text_rows, rows, und),
        latents=one.latents.repeat(rows, 1),
        latent_position_ids=one.latent_position_ids.repeat(rows),
        timesteps=one.timesteps.repeat(rows),
        noised_rows=_shifted(one.noised_rows, rows, gen),
        layout=Layout(
            begins.repeat_interleave(und),
            begins.repeat_interleave(gen),
            _repeat_grid(layout.joint, rows, past[0] if past else None),
            lonely and _repeat_grid(lonely, rows, past[1] if past else None),
        ),
    )


def _shifted(index: Tensor, rows: int, by: int) -> Tensor:
    """The indices of one row for each of ``rows`` rows of ``by`` entries."""
    return (torch.arange(rows)[:, None] * by + index).flatten()


def _repeat_grid(grid: Grid, rows: int, past_valid: Tensor | None) -> Grid:
    visible = _behind(past_valid, grid.visible.expand(rows, -1, -1))
    und, gen = (_shifted(slots, rows, grid.length) for slots in (grid.understanding_slots, grid.generation_slots))
    return Grid(rows, grid.length, und, gen, visible.contiguous())


def _features(looks: list[LookSplit]) -> Tensor | None:
    known = [look.features for look in looks if look.features is not None]
    return torch.cat(known) if known and len(known) == len(looks) else None


def _trunk(splits: list[Split]) -> tuple[Tensor | None, int]:
    """The hidden states from which the pass goes on, and at which layer; (None, 0) unless all splits have them."""
    known = [split.trunk for split in splits if not isinstance(split, LatentSplit) and split.trunk is not None]
    if len(known) < len(splits) or len({trunk.layers for trunk in known}) != 1:
        return None, 0
    return torch.cat([trunk.hidden for trunk in known]), known[0].layers


def _cat(parts: list[Tensor], width: int | None = None) -> Tensor:
    if parts:
        return torch.cat(parts)
    return torch.zeros((0,), dtype=torch.long) if width is None else torch.zeros(0, width)


def _layout(rows: list[_Row], config: BagelConfig, past: tuple[Tensor, Tensor] | None) -> Layout:
    und = [
        position for row in rows for position, latent in zip(row.positions, row.is_latent, strict=True) if not latent
    ]
    gen = [position for row in rows for position, latent in zip(row.positions, row.is_latent, strict=True) if latent]
    masks = [row.mask() for row in rows]
    latent = [torch.tensor(row.is_latent) for row in rows]
    joint = _grid(masks, latent, past[0] if past else None)
    understanding_only = None
    if config.generation_layers is not None:
        kept = [mask[~is_latent][:, ~is_latent] for mask, is_latent in zip(masks, latent, strict=True)]
        nothing = [torch.zeros(mask.shape[0], dtype=torch.bool) for mask in kept]
        understanding_only = _grid(kept, nothing, past[1] if past else None)
    return Layout(torch.tensor(und), torch.tensor(gen, dtype=torch.long), joint, understanding_only)


def _grid(masks: list[Tensor], latent: list[Tensor], past_valid: Tensor | None) -> Grid:
    length = max(mask.shape[0] for mask in masks)
    visible = torch.zeros(len(masks), length, length, dtype=torch.bool)
    und_slots, gen_slots = [], []
    for index, (mask, is_latent) in enumerate(zip(masks, latent, strict=True)):
        size = mask.shape[0]
        visible[index, :size, :size] = mask
        slots = torch.arange(size) + index * length
        und_slots.append(slots[~is_latent])
        gen_slots.append(slots[is_latent])
    visible = _behind(past_valid, visible)
    return Grid(len(masks), length, torch.cat(und_slots), torch.cat(gen_slots), visible)


def _behind(past_valid: Tensor | None, visible: Tensor) -> Tensor:
    """``visible`` (rows, n, n) with what is cached in front of it: every token sees every valid entry of its row."""
    if past_valid is None:
        return visible
    return torch.cat([past_valid.cpu()[:, None, :].expand(-1, visible.shape[1], -1), visible], dim=-1)
