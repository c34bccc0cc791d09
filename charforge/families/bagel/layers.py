"""Small parts shared by the streams: RMSNorm, rotary embedding, grouped attention, embeddings."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Products compute in the types of their weights inside the block: autocast would round the adapter's part anew."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32, cast back, then scaled (bagel.md section 3)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size), dtype kept."""
        # compiled code fuses the steps by itself, and what torch 2.11 makes of a Function in it has a wrong gradient
        if torch.compiler.is_compiling():
            normal, _ = _normalise(x, self.eps)
        elif x.device.type != "cpu":
            # one kernel there and one back, where a card waits for the host to start each; autocast would have fp32
            with without_autocast(x.device):
                normal = F.rms_norm(x, x.shape[-1:], None, self.eps)
        else:
            normal = _Normalise.apply(x, self.eps)
        return normal * self.weight.to(x.dtype)


def _normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x / rms(x) over the last axis and 1 / rms(x), statistics in fp32."""
    inverse = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)
    return (x * inverse).to(x.dtype), inverse


class _Normalise(torch.autograd.Function):
    """The first of ``_normalise``. Written out because norms of queries and keys were a sixth of a training step on
    CPUs when autograd recorded every elementwise step (docs/log.md, 2026-11-23)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        out, inverse = _normalise(x, eps)
        ctx.save_for_backward(out, inverse)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        out, inverse = ctx.saved_tensors
        # d(x r)/dx = r (1 - y y^T / n) with y = x r
        along = (grad * out).mean(-1, keepdim=True, dtype=torch.float32)
        return ((grad - out * along) * inverse).to(grad.dtype), None


def rotary_tables(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine (tokens, head_dim) in fp32 for integer ``positions`` (tokens,)."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim)
    angles = positions.float()[:, None] * frequencies
    return torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()


def rotate(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary embedding to ``x`` (tokens, heads, head_dim), half-split pairs (i, i + d/2)."""
    cos, sin = (table[:, None, :].to(x.dtype) for table in tables)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


fused_everywhere: ContextVar[bool] = ContextVar("fused_everywhere", default=False)
"""Take the GPU's way through attention on a CPU too: for predicting a GPU's memory on a machine without one."""


# Finite, so that a row in which everything is forbidden (padding) gives a number and not NaN.
FORBIDDEN = -1e9


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """What attention adds to its scores: 0 where ``visible`` (boolean, any shape) is true, very negative elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, FORBIDDEN)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Grouped-query attention over padded rows.

    query (rows, L, heads, d); key, value (rows, K, kv_heads, d); bias (rows, L, K) additive in the query's dtype.
    Returns (rows, L, heads, d). Query head h reads key head h // (heads / kv_heads).
    """
    rows, length, heads, size = query.shape
    kv_heads = key.shape[2]
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or fused_everywhere.get():
        # keys and values are repeated: the fused kernels take a mask or grouped heads, with both PyTorch falls back to
        # plain products that keep every score
        groups = heads // kv_heads
        out = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.repeat_interleave(groups, dim=2).transpose(1, 2),
            value.repeat_interleave(groups, dim=2).transpose(1, 2),
            attn_mask=bias[:, None].to(query.dtype),
        )
        return out.transpose(1, 2)
    # On CPUs the backward of the fused bf16 kernel is three times slower than plain products with the query heads of
    # one key head folded into the length axis; that of the fp32 kernel is not (docs/log.md, 2026-11-26, night).
    group = heads // kv_heads
    folded = query.view(rows, length, kv_heads, group, size).permute(0, 2, 3, 1, 4)
    folded = folded.reshape(rows * kv_heads, group * length, size)
    keys = key.transpose(1, 2).reshape(rows * kv_heads, -1, size)
    values = value.transpose(1, 2).reshape(rows * kv_heads, -1, size)
    scores = torch.bmm(folded * size**-0.5, keys.transpose(1, 2))
    # in the scores' own type: the kernel sums in fp32 inside, a copy in fp32 would only cost memory
    scores = scores.view(rows, kv_heads, group, length, -1) + bias[:, None, None].to(scores.dtype)
    weights = scores.softmax(-1).view(rows * kv_heads, group * length, -1)
    out = torch.bmm(weights, values).view(rows, kv_heads, group, length, size)
    return out.permute(0, 3, 1, 2, 4).reshape(rows, length, heads, size)


class TimestepEmbedder(nn.Module):
    """Sinusoid of an unscaled t in [0, 1] through a two-layer MLP (bagel.md section 3)."""

    FREQUENCIES = 256

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(self.FREQUENCIES, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, t: Tensor) -> Tensor:
        """(n,) -> (n, hidden_size)."""
        weight = self.mlp.get_parameter("0.weight")
        return self.mlp(timestep_sinusoid(t, self.FREQUENCIES).to(weight.dtype))


def timestep_sinusoid(t: Tensor, size: int) -> Tensor:
    """[cos(t f), sin(t f)] with f_k = 10000^(-k / (size/2)); (n,) -> (n, size) in fp32."""
    half = size // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def unset_embedding(count: int, size: int) -> nn.Embedding:
    """A table (count, size) that a file will fill. Without this PyTorch would draw its values, and to do so on the meta
    device, where models begin, it imports its whole compiler: two seconds."""
    return nn.Embedding.from_pretrained(torch.empty(count, size), freeze=False)


class PositionTable(nn.Module):
    """A fixed sin-cos table that is nevertheless stored: the published one is BF16-rounded (bagel.md section 8.1).

    Its values come from the base's files, or from :func:`sincos_table` where a base is made.
    """

    def __init__(self, side: int, hidden_size: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(side * side, hidden_size), requires_grad=False)

    def forward(self, position_ids: Tensor) -> Tensor:
        """(n,) row indices -> (n, hidden_size)."""
        return self.pos_embed[position_ids]


def sincos_table(side: int, hidden_size: int) -> Tensor:
    """(side*side, hidden_size): [sin(c w), cos(c w), sin(r w), cos(r w)], column first, computed in float64."""
    quarter = hidden_size // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    grid = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    half = torch.cat([grid.sin(), grid.cos()], dim=-1)
    columns = half[None].expand(side, side, -1)
    rows = half[:, None].expand(side, side, -1)
    return torch.cat([columns, rows], dim=-1).reshape(side * side, hidden_size).float()


def grid_position_ids(rows: int, columns: int, side: int, interpolate: bool = False) -> Tensor:
    """Row-major table indices of a rows x columns grid in a side x side table (bagel.md section 3)."""
    if interpolate:
        boundaries = torch.arange(1, side, dtype=torch.float32) / side
        r = torch.bucketize(torch.arange(rows, dtype=torch.float32) / rows, boundaries, right=True)
        c = torch.bucketize(torch.arange(columns, dtype=torch.float32) / columns, boundaries, right=True)
    else:
        r, c = torch.arange(rows), torch.arange(columns)
    return (r[:, None] * side + c[None, :]).flatten()
