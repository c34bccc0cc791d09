"""The decoder: two streams with their own weights that meet only in attention (bagel.md section 3).

Text, vision tokens and the markers around latents form the *understanding* stream; latent tokens, clean or noised,
form the *generation* stream. Linear layers run on packed tokens without padding; only attention sees the padded
grid of a ``Grid``. Module names follow the published checkpoint: the generation expert ends in ``_moe_gen``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from charforge.families.bagel.config import BagelConfig, ExpertConfig
from charforge.families.bagel.layers import RMSNorm, additive, attend, rotary_tables, rotate, unset_embedding

Tables = tuple[Tensor, Tensor]
KeyValue = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Grid:
    """Where packed tokens lie in the padded (rows, length) grid in which attention runs.

    ``visible`` (rows, length, cached + length) is true where a query may look.
    """

    rows: int
    length: int
    understanding_slots: Tensor
    generation_slots: Tensor
    visible: Tensor


@dataclass(frozen=True)
class Layout:
    """Positions and grids of one forward pass.

    ``joint`` holds both streams. ``understanding_only`` serves the layers without a generation expert, in which
    latent tokens neither ask nor answer; it is None when every layer has one.
    """

    understanding_positions: Tensor
    generation_positions: Tensor
    joint: Grid
    understanding_only: Grid | None


class MLP(nn.Module):
    """down(silu(gate) * up)."""

    def __init__(self, expert: ExpertConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(expert.hidden_size, expert.intermediate_size, bias=False)
        self.up_proj = nn.Linear(expert.hidden_size, expert.intermediate_size, bias=False)
        self.down_proj = nn.Linear(expert.intermediate_size, expert.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class SelfAttention(nn.Module):
    """Projections of both experts into the shared heads."""

    def __init__(self, config: BagelConfig, has_generation: bool) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self._add_expert(config, config.understanding, "")
        if has_generation:
            self._add_expert(config, config.generation, "_moe_gen")

    def _add_expert(self, config: BagelConfig, expert: ExpertConfig, suffix: str) -> None:
        for name, heads in (("q_proj", config.heads), ("k_proj", config.kv_heads), ("v_proj", config.kv_heads)):
            linear = nn.Linear(expert.hidden_size, heads * config.head_dim, bias=expert.qkv_bias)
            self.add_module(name + suffix, linear)
        output = nn.Linear(config.heads * config.head_dim, expert.hidden_size, bias=False)
        self.add_module("o_proj" + suffix, output)
        if expert.qk_norm:
            self.add_module("q_norm" + suffix, RMSNorm(config.head_dim, config.rms_norm_eps))
            self.add_module("k_norm" + suffix, RMSNorm(config.head_dim, config.rms_norm_eps))

    def project(self, x: Tensor, tables: Tables, suffix: str) -> tuple[Tensor, Tensor, Tensor]:
        """(tokens, hidden) -> rotated query, rotated key, value, each (tokens, heads, head_dim)."""
        parts = []
        for name in ("q", "k", "v"):
            part = self.get_submodule(f"{name}_proj{suffix}")(x).unflatten(-1, (-1, self.head_dim))
            if name != "v":
                if hasattr(self, f"{name}_norm{suffix}"):
                    part = self.get_submodule(f"{name}_norm{suffix}")(part)
                part = rotate(part, tables)
            parts.append(part)
        return parts[0], parts[1], parts[2]


def _scatter(grid: Grid, understanding: Tensor, generation: Tensor | None) -> Tensor:
    """Packed (tokens, heads, d) of both streams -> (rows, length, heads, d)."""
    flat = understanding.new_zeros(grid.rows * grid.length, *understanding.shape[1:])
    flat = flat.index_copy(0, grid.understanding_slots, understanding)
    if generation is not None:
        flat = flat.index_copy(0, grid.generation_slots, generation.to(understanding.dtype))
    return flat.view(grid.rows, grid.length, *understanding.shape[1:])


class DecoderLayer(nn.Module):
    """One layer. The generation stream passes through untouched where there is no generation expert."""

    def __init__(self, config: BagelConfig, has_generation: bool) -> None:
        super().__init__()
        self.has_generation = has_generation
        self.self_attn = SelfAttention(config, has_generation)
        for suffix, expert in (("", config.understanding), ("_moe_gen", config.generation)):
            if suffix and not has_generation:
                continue
            self.add_module("mlp" + suffix, MLP(expert))
            for norm in ("input_layernorm", "post_attention_layernorm"):
                self.add_module(norm + suffix, RMSNorm(expert.hidden_size, config.rms_norm_eps))

    def forward(
        self, und: Tensor, gen: Tensor, grid: Grid, bias: Tensor, und_tables: Tables, gen_tables: Tables,
        past: KeyValue | None,
    ) -> tuple[Tensor, Tensor, KeyValue]:  # fmt: skip
        """Packed streams in, packed streams and this call's keys and values (rows, length, kv_heads, d) out. ``bias``
        is what ``grid.visible`` adds to the scores."""
        attention = self.self_attn
        with_gen = self.has_generation and gen.shape[0] > 0
        und_qkv = attention.project(self._norm("input_layernorm", und, ""), und_tables, "")
        gen_qkv: tuple[Tensor, Tensor, Tensor] | tuple[None, None, None] = (None, None, None)
        if with_gen:
            gen_qkv = attention.project(self._norm("input_layernorm", gen, "_moe_gen"), gen_tables, "_moe_gen")
        query, key, value = (_scatter(grid, u, g) for u, g in zip(und_qkv, gen_qkv, strict=True))
        keys = key if past is None else torch.cat([past[0], key], dim=1)
        values = value if past is None else torch.cat([past[1], value], dim=1)
        out = attend(query, keys, values, bias).flatten(0, 1).flatten(1)
        und = self._finish(und, out[grid.understanding_slots], "")
        if with_gen:
            gen = self._finish(gen, out[grid.generation_slots], "_moe_gen")
        return und, gen, (key, value)

    def _norm(self, name: str, x: Tensor, suffix: str) -> Tensor:
        return self.get_submodule(name + suffix)(x)

    def _finish(self, x: Tensor, attended: Tensor, suffix: str) -> Tensor:
        x = x + self.self_attn.get_submodule("o_proj" + suffix)(attended)
        return x + self.get_submodule("mlp" + suffix)(self._norm("post_attention_layernorm", x, suffix))


class Decoder(nn.Module):
    """Embedding table, layers and the routed final norm (``language_model.model`` in the checkpoint)."""

    def __init__(self, config: BagelConfig) -> None:
        super().__init__()
        self.config = config
        # training on little memory: keep each layer's input only and compute the layer again in the backward pass
        self.checkpoint_layers = False
        self.embed_tokens = unset_embedding(config.vocab_size, config.understanding.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(config, config.has_generation(index)) for index in range(config.layers)
        )
        self.norm = RMSNorm(config.understanding.hidden_size, config.rms_norm_eps)
        self.norm_moe_gen = RMSNorm(config.generation.hidden_size, config.rms_norm_eps)

    def forward(
        self, und: Tensor, gen: Tensor, layout: Layout, cache: list[KeyValue] | None = None, first_layer: int = 0
    ) -> tuple[Tensor, Tensor, list[KeyValue]]:
        """Run both streams through all layers from ``first_layer`` on.

        und (tokens, H_u), gen (tokens, H_g) packed; ``cache`` holds one (keys, values) per layer to look back on.
        Returns both streams after their final norm, and the new keys and values per layer.
        """
        und, gen, fresh = self.run(und, gen, layout, cache, range(first_layer, len(self.layers)))
        return self.norm(und), self.norm_moe_gen(gen), fresh

    def run(
        self, und: Tensor, gen: Tensor, layout: Layout, cache: list[KeyValue] | None, indices: range
    ) -> tuple[Tensor, Tensor, list[KeyValue]]:
        """Both streams through the layers of ``indices``, without the final norm; arguments as for the whole."""
        head_dim, theta = self.config.head_dim, self.config.rope_theta
        kind = und.device.type
        # as the queries and keys of all layers come
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else und.dtype
        und_tables, gen_tables = (
            tuple(table.to(dtype) for table in rotary_tables(positions, head_dim, theta))
            for positions in (layout.understanding_positions, layout.generation_positions)
        )
        # once for all layers: each would keep its own for the way back
        grids = {True: layout.joint, False: layout.understanding_only}
        biases = {kind: additive(grid.visible, dtype) for kind, grid in grids.items() if grid is not None}
        fresh: list[KeyValue] = []
        for index in indices:
            layer, has_generation = self.layers[index], self.config.has_generation(index)
            grid = grids[has_generation]
            assert grid is not None
            past = cache[index] if cache is not None else None
            arguments = (und, gen, grid, biases[has_generation], und_tables, gen_tables, past)
            if self.checkpoint_layers and torch.is_grad_enabled():
                und, gen, key_value = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                und, gen, key_value = layer(*arguments)
            fresh.append(key_value)
        return und, gen, fresh


class LanguageModel(nn.Module):
    """Decoder plus output head; tied models have no ``lm_head`` weight of their own."""

    def __init__(self, config: BagelConfig) -> None:
        super().__init__()
        self.model = Decoder(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.understanding.hidden_size, config.vocab_size, bias=False)

    @property
    def head_weight(self) -> Tensor:
        """(vocabulary, H_u): the output head's, or the embedding table where the two are tied."""
        return self.lm_head.weight if hasattr(self, "lm_head") else self.model.embed_tokens.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """(n, H_u) -> (n, vocabulary). Call it on supervised positions only: the full table is large."""
        return F.linear(hidden, self.head_weight)
