"""The decoder on rectangular blocks: what a token or a denoising step of inference goes through.

Training packs samples of any length (packing.py). In a block every row has equally many tokens, so nothing is packed,
scattered or masked anew: a block is a few large products a layer, and attention to keys and values that lie ready.
All shapes are known before, nothing is read back: a GPU can capture it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from charforge.families.bagel.config import BagelConfig, ExpertConfig
from charforge.families.bagel.decoder import DecoderLayer, KeyValue
from charforge.families.bagel.layers import additive, rotary_tables
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.products import (
    PackedWeight,
    Product,
    base_of,
    can_pack,
    pack_linears,
    pack_weight,
    product,
)
from charforge.low_rank import Chosen, choosing

Remember = Callable[[int, Tensor], KeyValue]
"""(layer, a block's keys and its values behind them (rows, 2 kv_heads, tokens, head_dim)) -> all keys and all values to
look at, each (rows, kv_heads, tokens, head_dim)."""
PACKED_BYTES = 2**30
"""Up to so much memory is spent on a second, packed copy of a decoder's weights."""


@dataclass(frozen=True)
class ExpertLayer:
    """One expert's part of a layer. ``qk_scale`` (heads + kv_heads, head_dim) holds the norms of queries and keys."""

    qkv: Product
    output: Product
    gate_up: Product
    down: Product
    input_norm: Tensor
    post_norm: Tensor
    qk_scale: Tensor | None


@dataclass(frozen=True)
class Decoder:
    """A decoder read from a model for inference: experts of each layer, understanding and generation.

    ``head`` maps the final hidden states to logits.
    """

    layers: tuple[tuple[ExpertLayer, ExpertLayer | None], ...]
    head: Product
    heads: int
    kv_heads: int
    head_dim: int
    eps: float


@dataclass(frozen=True)
class Bias:
    """Additive (rows, 1, keys): 0 where all of a block's tokens may look, very negative elsewhere.

    ``joint`` is for the layers with both experts, ``understanding_only`` for the others.
    """

    joint: Tensor
    understanding_only: Tensor


_FUSED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
Packed = dict[str, PackedWeight]
"""Packed weights by ``LAYER.PRODUCT`` or ``LAYER.PRODUCT_moe_gen``, and the ``head``."""


def _named(name: str, suffix: str) -> str:
    """The expert's name for a linear: ``mlp_moe_gen.gate_proj``, but ``self_attn.q_proj_moe_gen``."""
    first, last = name.split(".")
    return f"{first}{suffix}.{last}" if first == "mlp" else f"{name}{suffix}"


def _experts(layer: DecoderLayer) -> tuple[str, ...]:
    return ("", "_moe_gen") if layer.has_generation else ("",)


def pack_decoder(model: BagelModel) -> Packed:
    """Second copies of the decoder's weights for products with few rows: twice the speed of a reply on CPUs.

    Empty where nothing is to be won or no room is: on a GPU, with quantised weights, above ``PACKED_BYTES``.
    """
    layers: list[DecoderLayer] = list(model.language_model.model.layers)  # type: ignore[arg-type]
    linears = {
        f"{index}.{key}{suffix}": [base_of(layer.get_submodule(_named(name, suffix))) for name in names]
        for index, layer in enumerate(layers)
        for suffix in _experts(layer)
        for key, names in _FUSED.items()
    }
    every = [linear for group in linears.values() for linear in group]
    head = _head_weight(model)
    if not can_pack(every):
        return {}
    if sum(linear.get_parameter("weight").nbytes for linear in every) + head.nbytes > PACKED_BYTES:
        return {}
    return {name: pack_linears(group) for name, group in linears.items()} | {"head": pack_weight(head)}


def _head_weight(model: BagelModel) -> Tensor:
    language = model.language_model
    return language.model.embed_tokens.weight if model.config.tie_word_embeddings else language.lm_head.weight


def read_decoder(model: BagelModel, acting: Sequence[Chosen | None] | None = None) -> Decoder:
    """The decoder of ``model`` with its adapter as it is now, or with what is ``acting`` on each row. Weights are
    referred to, not copied."""
    choices = None
    if acting is not None:
        if len(set(acting)) == 1:
            with choosing(acting[0]):
                return read_decoder(model)
        choices = {
            chosen: torch.tensor([row for row, own in enumerate(acting) if own == chosen], device=model.device)
            for chosen in dict.fromkeys(acting)
        }
    config, packed = model.config, model.packed
    layers: list[DecoderLayer] = list(model.language_model.model.layers)  # type: ignore[arg-type]
    experts = {"": config.understanding, "_moe_gen": config.generation}
    read = []
    for index, layer in enumerate(layers):
        both = [_read_expert(model, layer, index, suffix, experts[suffix], choices) for suffix in _experts(layer)]
        read.append((both[0], both[1] if layer.has_generation else None))
    head = Product((_Head(_head_weight(model)),), packed.get("head"), None)
    return Decoder(tuple(read), head, config.heads, config.kv_heads, config.head_dim, config.rms_norm_eps)


class _Head(torch.nn.Module):
    """The output head of a tied model, which has no module of its own."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


def _read_expert(
    model: BagelModel, layer: DecoderLayer, index: int, suffix: str, expert: ExpertConfig,
    choices: Mapping[Chosen | None, Tensor] | None,
) -> ExpertLayer:  # fmt: skip
    config, dtype = model.config, model.dtype
    inner, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    outputs = {
        "qkv": (inner, kv, kv),
        "output": (expert.hidden_size,),
        "gate_up": (expert.intermediate_size,) * 2,
        "down": (expert.hidden_size,),
    }
    products = {
        key: product(
            [layer.get_submodule(_named(name, suffix)) for name in names],
            outputs[key],
            model.packed.get(f"{index}.{key}{suffix}"),
            dtype,
            # the understanding expert meets a token or two, the generation expert a picture
            few_tokens=not suffix,
            choices=choices,
        )
        for key, names in _FUSED.items()
    }
    scale = None
    if expert.qk_norm:
        weights = [layer.get_parameter(f"self_attn.{name}_norm{suffix}.weight") for name in ("q", "k")]
        scale = torch.cat([weights[0].expand(config.heads, -1), weights[1].expand(config.kv_heads, -1)]).to(dtype)
    norms = [layer.get_parameter(f"{name}{suffix}.weight") for name in ("input_layernorm", "post_attention_layernorm")]
    return ExpertLayer(**products, input_norm=norms[0].to(dtype), post_norm=norms[1].to(dtype), qk_scale=scale)


def rotation(config: BagelConfig, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine, and sine with the sign of the half it meets, for integer ``positions`` (rows,) and all heads of a token:
    (rows, heads + 2 kv_heads, head_dim). The heads that hold values are turned by nothing."""
    cos, sin = rotary_tables(positions, config.head_dim, config.rope_theta)
    half, turned = config.head_dim // 2, config.heads + config.kv_heads
    signed = torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)
    still = (*cos.shape[:1], config.kv_heads, config.head_dim)
    cos = torch.cat([cos[:, None].expand(-1, turned, -1), cos.new_ones(still)], dim=1)
    signed = torch.cat([signed[:, None].expand(-1, turned, -1), cos.new_zeros(still)], dim=1)
    return cos.to(dtype), signed.to(dtype)


@dataclass(frozen=True)
class Block:
    """One stream's tokens (rows, n, width) and their rotation, each (rows, n or 1, heads + 2 kv_heads, head_dim)."""

    x: Tensor
    cos: Tensor
    sin: Tensor


def run_layers(
    decoder: Decoder, und: Block, gen: Block | None, bias: Bias, remember: Remember, adapted: int
) -> tuple[Tensor, Tensor | None]:
    """Both streams through all layers, before their final norms. The adapter acts on the first ``adapted`` rows."""
    u, g = und.x, gen.x if gen is not None else None
    count = u.shape[1]
    for index, (understanding, generation) in enumerate(decoder.layers):
        with_gen = g is not None and generation is not None
        heads = _project(decoder, understanding, u, und, adapted)
        if with_gen:
            assert g is not None and gen is not None and generation is not None
            heads = torch.cat([heads, _project(decoder, generation, g, gen, adapted)], dim=2)
        keys, values = remember(index, heads[:, decoder.heads :])
        allowed = bias.joint if generation is not None else bias.understanding_only
        seen = _attend(heads[:, : decoder.heads], keys, values, allowed)
        u = _finish(decoder, understanding, u, seen[:, :count], adapted)
        if with_gen:
            assert g is not None and generation is not None
            g = _finish(decoder, generation, g, seen[:, count:], adapted)
    return u, g


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm of charforge.families.bagel.layers, to the bit, for inference."""
    return F.rms_norm(x, x.shape[-1:], None, eps) * weight


def _project(decoder: Decoder, expert: ExpertLayer, x: Tensor, block: Block, adapted: int) -> Tensor:
    """Queries and keys, rotated, and values of all heads: (rows, heads + 2 kv_heads, n, head_dim)."""
    rows, n, _ = x.shape
    out = expert.qkv(_norm(x, expert.input_norm, decoder.eps), adapted).view(rows, n, -1, decoder.head_dim)
    if expert.qk_scale is not None:
        both = decoder.heads + decoder.kv_heads
        out = torch.cat([_norm(out[:, :, :both], expert.qk_scale, decoder.eps), out[:, :, both:]], dim=2)
    turned = out * block.cos + out.roll(decoder.head_dim // 2, -1) * block.sin
    return turned.transpose(1, 2)


def _attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """(rows, heads, n, d) over (rows, kv_heads, K, d) -> (rows, n, heads * d).

    Heads that share a key share a product. Scores are rounded as in ``layers.attend``: with bf16 on a CPU
    every score is, and what was learned with that is drawn and said with it.
    """
    rows, heads, n, size = query.shape
    kv_heads = keys.shape[1]
    folded = query.reshape(rows, kv_heads, heads // kv_heads * n, size)
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        scores = (folded * size**-0.5) @ keys.transpose(2, 3) + bias[:, None]
        out = scores.softmax(-1) @ values
    else:
        out = F.scaled_dot_product_attention(folded, keys, values, attn_mask=bias[:, None])
    # not a view: kernels of a card return their result in a layout of their own
    return out.reshape(rows, heads, n, size).transpose(1, 2).reshape(rows, n, heads * size)


def _finish(decoder: Decoder, expert: ExpertLayer, x: Tensor, attended: Tensor, adapted: int) -> Tensor:
    x = x + expert.output(attended, adapted)
    gate, up = expert.gate_up(_norm(x, expert.post_norm, decoder.eps), adapted).chunk(2, dim=-1)
    return x + expert.down(F.silu(gate) * up, adapted)


def visible(valid: Tensor, room: int, dtype: torch.dtype) -> Tensor:
    """The bias (rows, 1, cached + room) of a block that sees every valid cached entry (rows, cached), and ``room``."""
    seen = F.pad(valid, (0, room), value=True)
    return additive(seen, dtype)[:, None]
