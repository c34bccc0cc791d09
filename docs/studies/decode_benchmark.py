"""Tokens a second: charforge against transformers' ``generate``, the same weights, precision and tokens, turn about.

python docs/studies/decode_benchmark.py
ONEDNN_MAX_CPU_ISA=AVX2 python docs/studies/decode_benchmark.py --dtype float32

Both decode greedily after the same conversation with the language part of ``mini`` (SmolLM2-135M), a fixed number of
tokens, in one process, one after the other in every round: read the ratios, not the times. transformers has its own
default cache. Only decoding is timed; reading the conversation is not. No adapter on either side. Where other programs
use the cores, the ratio of processor times is the steadier one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from charforge.bases.base import compute_dtype, load_base
from charforge.families.bagel.blocks import pack_decoder
from charforge.families.bagel.context import Context, empty_context, extend_context
from charforge.families.bagel.decode import generate_text
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.unified import UnifiedBagel

CONVERSATION = (
    ("system", "You are Wren, a voxel person who repairs clocks, boats and radios in a workshop by the sea. " * 4),
    ("user", "What are you building today?"),
)


def language_model(model: BagelModel) -> torch.nn.Module:
    """The understanding expert of ``model`` as transformers' own Llama, in the same precision, weights copied."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = model.config
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.understanding.hidden_size,
            intermediate_size=config.understanding.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_dim,
            rms_norm_eps=config.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            max_position_embeddings=8192,
            tie_word_embeddings=True,
        )
    ).to(model.dtype)
    own = model.language_model.state_dict()
    llama.load_state_dict({name: own[name] for name in llama.state_dict() if name in own}, strict=False)
    llama.tie_weights()
    return llama.eval()


def conversation_ids(model: UnifiedBagel) -> list[int]:
    """The conversation and the beginning of the answer, as one row of token ids."""
    special, ids = model.shapes.special_tokens, []
    for role, text in CONVERSATION:
        ids += [special.bos, *model.tokenizer.text(text, role).ids, special.eos]
    return [*ids, special.bos, *model.tokenizer.role_prefix("assistant")]


def conversation_context(model: UnifiedBagel) -> Context:
    """The same, read by charforge; the beginning of the answer is part of decoding."""
    context = empty_context()
    for role, text in CONVERSATION:
        context = extend_context(model.network, context, [model.tokenizer.text(text, role)])
    return context


def timed(decode: Callable[[int], list[int]], tokens: int) -> tuple[float, float, list[int]]:
    """Seconds of wall time and of processor time a token, and the tokens: a long answer less a short one, so that what
    comes before the first token does not count."""
    clocks = []
    ids: list[int] = []
    for count in (2, tokens + 2):
        begun = time.perf_counter(), time.process_time()
        ids = decode(count)
        clocks.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    (short, short_cpu), (long, long_cpu) = clocks
    return (long - short) / tokens, (long_cpu - short_cpu) / tokens, ids


def main() -> None:
    parser = argparse.ArgumentParser(description="Decode turn about with charforge and with transformers.")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default=str(compute_dtype("cpu")).split(".")[1])
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    base = load_base("mini", dtype=getattr(torch, arguments.dtype))
    model = base.model
    assert isinstance(model, UnifiedBagel)
    network = model.network
    network.packed = pack_decoder(network)
    llama, ids = language_model(network), torch.tensor([conversation_ids(model)])
    context, prefix = conversation_context(model), model.tokenizer.role_prefix("assistant")

    def theirs(count: int) -> list[int]:
        mask = torch.ones_like(ids)
        out = llama.generate(  # type: ignore[operator]
            ids, attention_mask=mask, max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0
        )
        return out[0, ids.shape[1] :].tolist()

    def greedy(logits: Tensor) -> Tensor:
        # as transformers does with min_new_tokens: the end is not chosen
        return logits.index_fill(-1, torch.tensor([model.shapes.special_tokens.eos]), -torch.inf).argmax(-1)

    def ours(count: int) -> list[int]:
        return generate_text(network, context, greedy, count, prefix)[0][0]

    arms: dict[str, Callable[[int], list[int]]] = {"transformers": theirs, "charforge": ours}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    processor: dict[str, list[float]] = {name: [] for name in arms}
    said: dict[str, list[int]] = {}
    for _ in range(arguments.rounds):
        for name, decode in arms.items():
            took, worked, said[name] = timed(decode, arguments.tokens)
            seconds[name].append(took)
            processor[name].append(worked)
    ratios, worked_ratios = (
        [a / b for a, b in zip(kind["transformers"], kind["charforge"], strict=True)] for kind in (seconds, processor)
    )
    same = sum(a == b for a, b in zip(said["transformers"], said["charforge"], strict=True))
    print(
        json.dumps(
            {
                "dtype": arguments.dtype,
                "threads": torch.get_num_threads(),
                "tokens_per_s": {name: round(1 / statistics.median(took), 1) for name, took in seconds.items()},
                "ratio_median": round(statistics.median(ratios), 2),
                "processor_ratio_median": round(statistics.median(worked_ratios), 2),
                "ratios": [round(ratio, 2) for ratio in ratios],
                "same_tokens": f"{same} of {len(said['charforge'])}",
            }
        )
    )


if __name__ == "__main__":
    main()
