"""What the model has to compute, from its shapes, and what the machine could compute: together the MFU.

A matrix product of n tokens with an (in, out) weight is 2 n in out operations. Attention of L queries over K keys is
4 L K heads head_dim (scores and values), masked or not, as is usual for this figure. What a kernel does beside that
(padding, unpacking of nf4, recomputation under checkpointing) is work but not counted: it lowers the MFU.

A LoRA step on a frozen base costs, in units of the forward pass:

- frozen linears 2: forward, and backward to their inputs; their weights get no gradient (full training would be 3);
- attention and the adapter 3: forward, and backward to both factors.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from charforge.families.bagel.config import BagelConfig, ExpertConfig

TIME_FREQUENCIES = 256

# Dense bf16 tensor-core FLOP/s with fp32 sums, from the makers' data sheets; the first pattern found in the name counts
_PEAKS = (
    (r"B200", 2250e12), (r"H200", 989e12), (r"H100 PCIe", 756e12), (r"H100 NVL", 835e12), (r"H100", 989e12),
    (r"A100", 312e12), (r"L40S", 362e12), (r"L40\b", 181e12), (r"L4\b", 121e12), (r"A40\b", 150e12),
    (r"A10G?\b", 125e12), (r"RTX 6000 Ada", 364e12), (r"RTX A6000", 155e12), (r"RTX A5000", 111e12),
    (r"RTX 5090\b", 209e12), (r"RTX 4090\b", 165e12), (r"RTX 4080\b", 97e12), (r"RTX 3090 Ti", 80e12),
    (r"RTX 3090\b", 71e12), (r"RTX 3080\b", 60e12),
)  # fmt: skip
# sold under the same name with other chips or power limits
_OTHER_CHIPS = r"Laptop|Max-Q| D\b|SUPER|MIG"


@dataclass(frozen=True)
class Tokens:
    """One forward pass: tokens of each stream, supervised positions, and each row's (queries, keys).

    ``understanding_rows`` are the same rows in layers without a generation expert, where latents take no part.
    """

    understanding: int
    latents: int
    supervised: int
    rows: tuple[tuple[int, int], ...]
    understanding_rows: tuple[tuple[int, int], ...]

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.understanding + other.understanding,
            self.latents + other.latents,
            self.supervised + other.supervised,
            self.rows + other.rows,
            self.understanding_rows + other.understanding_rows,
        )


def expert_parameters(config: BagelConfig, expert: ExpertConfig) -> int:
    """Matrix parameters of one decoder layer of one expert: q, k, v, o, gate, up, down."""
    heads = (2 * config.heads + 2 * config.kv_heads) * config.head_dim
    return expert.hidden_size * (heads + 3 * expert.intermediate_size)


def adapter_parameters(config: BagelConfig, expert: ExpertConfig, rank: int) -> int:
    """LoRA parameters of one decoder layer of one expert: rank x (in + out) for each of the seven linears."""
    hidden, inner = expert.hidden_size, expert.intermediate_size
    query, key = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return rank * (2 * (hidden + query) + 2 * (hidden + key) + 3 * (hidden + inner))


def generation_layer_count(config: BagelConfig) -> int:
    """Layers that have a generation expert."""
    return sum(config.has_generation(layer) for layer in range(config.layers))


def linear_flops(config: BagelConfig, tokens: Tokens) -> float:
    """Forward operations in the frozen linears that ``tokens`` pass through: decoder, output head, latents in and out.

    The vision tower and the autoencoder are not in it.
    """
    gen_hidden = config.generation.hidden_size
    drawing = generation_layer_count(config)
    around = gen_hidden * (2 * config.latent_token_size + TIME_FREQUENCIES + gen_hidden)
    und = tokens.understanding * config.layers * expert_parameters(config, config.understanding)
    gen = tokens.latents * (drawing * expert_parameters(config, config.generation) + around)
    head = tokens.supervised * config.understanding.hidden_size * config.vocab_size
    return 2.0 * (und + gen + head)


def attention_flops(config: BagelConfig, tokens: Tokens) -> float:
    """Forward operations of scores and values over all layers."""
    drawing = generation_layer_count(config)
    joint = sum(queries * keys for queries, keys in tokens.rows)
    alone = sum(queries * keys for queries, keys in tokens.understanding_rows)
    return 4.0 * config.heads * config.head_dim * (drawing * joint + (config.layers - drawing) * alone)


def adapter_flops(config: BagelConfig, tokens: Tokens, rank: int) -> float:
    """Forward operations of the LoRA matrices on both experts."""
    und = tokens.understanding * config.layers * adapter_parameters(config, config.understanding, rank)
    gen = tokens.latents * generation_layer_count(config) * adapter_parameters(config, config.generation, rank)
    return 2.0 * (und + gen)


def forward_flops(config: BagelConfig, tokens: Tokens, rank: int) -> float:
    """One pass without gradients."""
    return linear_flops(config, tokens) + attention_flops(config, tokens) + adapter_flops(config, tokens, rank)


def step_flops(config: BagelConfig, tokens: Tokens, rank: int) -> float:
    """One forward and backward pass of a LoRA step: 2 x linears + 3 x (attention + adapter)."""
    learned = attention_flops(config, tokens) + adapter_flops(config, tokens, rank)
    return 2 * linear_flops(config, tokens) + 3 * learned


def drawing_tokens(config: BagelConfig, rows: int, latents: int, context: int) -> Tokens:
    """One denoising step of ``rows`` pictures of ``latents`` tokens with ``context`` cached tokens each.

    The two markers around a picture belong to the understanding stream.
    """
    new = latents + 2
    return Tokens(2 * rows, latents * rows, 0, ((new, new + context),) * rows, ((2, 2 + context),) * rows)


def pack_tokens(samples: Iterable[tuple[int, int, int]]) -> Tokens:
    """Samples of one pack, each (understanding tokens, latent tokens, supervised positions)."""
    own = list(samples)
    return Tokens(
        sum(und for und, _, _ in own),
        sum(latents for _, latents, _ in own),
        sum(supervised for _, _, supervised in own),
        tuple((und + latents, und + latents) for und, latents, _ in own),
        tuple((und, und) for und, _, _ in own),
    )


def listed_peak(device_name: str) -> float | None:
    """Dense bf16 FLOP/s of a known card, None for others."""
    if re.search(_OTHER_CHIPS, device_name):
        return None
    return next((peak for pattern, peak in _PEAKS if re.search(pattern, device_name)), None)


def measured_peak(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of many short square matrix products on ``device``: one is likely to go undisturbed."""
    size = 8192 if device != "cpu" else 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(30):
        began = time.perf_counter()
        (a @ b).flatten()[0].item()
        times.append(time.perf_counter() - began)
    return 2.0 * size**3 / min(times[1:])
