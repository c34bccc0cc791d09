"""What BAGEL has to compute for the tokens of a pass, from its shapes.

A matrix product of n tokens with an (in, out) weight is 2 n in out operations. Attention of L queries over K keys is
4 L K heads head_dim (scores and values), masked or not, as is usual for this figure. What a kernel does beside that
(padding, unpacking of nf4, recomputation under checkpointing) is work but not counted.
"""

from __future__ import annotations

from charforge.families.bagel.config import BagelConfig, ExpertConfig
from charforge.families.work import Flops, Tokens

TIME_FREQUENCIES = 256


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


def pass_flops(config: BagelConfig, tokens: Tokens, rank: int) -> Flops:
    """One forward pass with an adapter of ``rank``."""
    return Flops(linear_flops(config, tokens), attention_flops(config, tokens), adapter_flops(config, tokens, rank))
