"""Decoding and drawing on blocks: the same as the plain packed pass, with every kind of adapter and weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from official import quantize_decoder
from tiny import CONFIG, tiny_data, tiny_model, tiny_network

from charforge.adapter.load import load_adapter
from charforge.adapter.lora import add_adapter, lora_config, save_adapter
from charforge.bases.drawing import draw_prompts
from charforge.chat.replies import sample_replies
from charforge.families.bagel.blocks import pack_decoder
from charforge.families.bagel.context import Context, empty_context, extend_context, join_contexts
from charforge.families.bagel.decode import SLOTS, TextDecoder, generate_text, rows_of, stream_text
from charforge.families.bagel.layers import grid_position_ids
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.packing import pack
from charforge.families.bagel.splits import LatentSplit, LookSplit, Split, TextSplit
from charforge.families.bagel.unified import UnifiedBagel
from charforge.low_rank import LowRankLinear, adapted_layers, adapter_off
from charforge.settings import ChatSettings

LORA = lora_config(CONFIG, 4, 8)
CLOSE = {"atol": 1e-4, "rtol": 1e-3}
PROMPTS = ["Pip in a forest , wearing a red coat", "Pip on a beach"]


def adapted(model: BagelModel, strength: float = 0.05) -> BagelModel:
    """With an adapter as training inserts it, whose every tensor matters."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in add_adapter(model, LORA, 0).values():
            parameter.copy_(strength * torch.randn(parameter.shape, generator=generator))
    return model


def loaded(model: UnifiedBagel, like: BagelModel, folder: Path) -> UnifiedBagel:
    """With the adapter of ``like`` as chat loads it."""
    save_adapter(like, LORA, folder, "tiny")
    load_adapter(model, folder, model.dtype)
    return model


def seen_before() -> list[Split]:
    """A picture's clean latents, the picture itself and a text: layers with and without generation expert see a
    different number of tokens of it."""
    generator = torch.Generator().manual_seed(2)
    return [
        LatentSplit(torch.randn(4, 16, generator=generator), grid_position_ids(2, 2, 4)),
        LookSplit(torch.randn(4, 192, generator=generator), grid_position_ids(2, 2, 4)),
        TextSplit((7, 8, 9)),
    ]


def context_of(model: BagelModel, splits: list[Split]) -> Context:
    context = empty_context()
    for split in splits:
        context = extend_context(model, context, [split])
    return context


def greedy(logits: torch.Tensor) -> torch.Tensor:
    return logits.argmax(-1)


def models(tmp_path: Path, kind: str) -> BagelModel:
    if kind == "plain":
        return tiny_network()
    if kind == "int8":
        model = tiny_network()
        quantize_decoder(model, "int8")
        return adapted(model)
    if kind == "trained":
        return adapted(tiny_network())
    return loaded(tiny_model(), adapted(tiny_network()), tmp_path).network


@torch.no_grad()
@pytest.mark.parametrize("kind", ["plain", "trained", "loaded", "packed", "int8"])
def test_decoding_says_what_one_pass_over_everything_says(tmp_path: Path, kind: str):
    model, before = models(tmp_path, kind), seen_before()
    if kind == "packed":
        model.packed = pack_decoder(model)
    count = SLOTS + 4  # over the end of a piece of the cache
    (said,), logits = generate_text(model, context_of(model, before), greedy, count, stop=-1)
    whole = model(pack([[*before, TextSplit(tuple(said), loss=True)]], CONFIG)).logits
    tolerance = {"atol": 0.1, "rtol": 0.1} if kind == "int8" else CLOSE
    torch.testing.assert_close(torch.cat(logits), whole[:count], **tolerance)
    if kind != "int8":
        assert whole[:count].argmax(-1).tolist() == said


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_weights_say_the_same(dtype: torch.dtype):
    model = tiny_network(dtype=dtype)
    context = context_of(model, seen_before())
    plain, logits = generate_text(model, context, greedy, 20, stop=-1)
    model.packed = pack_decoder(model)
    if not model.packed:
        pytest.skip("this PyTorch has no packed products")
    tolerance = CLOSE if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.05}
    decoder = TextDecoder(model, context, 21)
    again = [decoder.feed(torch.tensor([token])) for token in (CONFIG.special_tokens.bos, *plain[0])]
    torch.testing.assert_close(torch.cat(again[:-1]), torch.cat(logits), **tolerance)


@torch.no_grad()
def test_rows_of_unequal_length_are_those_of_each_alone():
    model = adapted(tiny_network())
    long, short = context_of(model, seen_before()), context_of(model, [TextSplit((11, 12))])
    together, logits = generate_text(model, join_contexts(long, short), greedy, 12, prefix=(5, 6), stop=-1)
    for row, context in enumerate((long, short)):
        alone, own = generate_text(model, context, greedy, 12, prefix=(5, 6), stop=-1)
        assert together[row] == alone[0]
        torch.testing.assert_close(torch.stack(logits)[:, row], torch.cat(own), **CLOSE)


@torch.no_grad()
def test_steps_come_one_by_one_and_rows_end_for_themselves():
    model = tiny_network()
    script = iter([[5, 6], [2, 7], [9, 8], [9, 2], [9, 9]])
    asked = []

    def choose(logits: torch.Tensor) -> torch.Tensor:
        asked.append(logits.shape)
        return torch.tensor(next(script))

    steps = stream_text(model, empty_context(2), choose, 10)
    assert next(steps).tokens == (5, 6) and len(asked) == 1
    assert next(steps).tokens == (None, 7) and len(asked) == 2
    rest = list(steps)
    assert [step.tokens for step in rest] == [(None, 8), (None, None)]
    assert rows_of(rest, 2) == [[], [8]]


def test_a_full_decoder_says_so():
    decoder = TextDecoder(tiny_network(), empty_context(), 2)
    for _ in range(2):
        decoder.feed(torch.tensor([5]))
    with pytest.raises(ValueError, match="room for 2 tokens"):
        decoder.feed(torch.tensor([5]))


@torch.no_grad()
def test_a_loaded_adapter_acts_as_the_trained_one_and_can_be_switched_off(tmp_path: Path):
    trained = adapted(tiny_network())
    model, bare = loaded(tiny_model(), trained, tmp_path).network, tiny_network()
    assert len(adapted_layers(model)) == 7 * (4 + 2)
    assert all(isinstance(layer, LowRankLinear) for layer in adapted_layers(model))
    batch = pack([list(sample) for sample in tiny_data().samples("dialogues")], CONFIG)
    assert torch.equal(model(batch).logits, trained(batch).logits)
    assert (model(batch).logits - bare(batch).logits).abs().max() > 0.01
    with adapter_off(model):
        assert torch.equal(model(batch).logits, bare(batch).logits)
        context = context_of(model, [TextSplit((7, 8))])
        off = generate_text(model, context, greedy, 5, stop=-1)[1]
    expected = generate_text(bare, context_of(bare, [TextSplit((7, 8))]), greedy, 5, stop=-1)[1]
    torch.testing.assert_close(torch.cat(off), torch.cat(expected), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pictures_of_a_loaded_adapter_are_those_of_the_trained_one(tmp_path: Path, dtype: torch.dtype):
    trained, model = tiny_model(dtype=dtype), tiny_model(dtype=dtype)
    adapted(trained.network)
    bare = draw_prompts(model, PROMPTS, [1, 2])
    loaded(model, trained.network, tmp_path)
    model.pack_for_use()
    ours, theirs = draw_prompts(model, PROMPTS, [1, 2]), draw_prompts(trained, PROMPTS, [1, 2])
    again, other = draw_prompts(model, PROMPTS, [1, 2]), draw_prompts(model, PROMPTS, [1, 3])
    for one, same in ((0, 0), (1, 1)):
        pixels = [np.asarray(pictures[one]).astype(int) for pictures in (ours, theirs, again, bare, other)]
        assert abs(pixels[0] - pixels[1]).max() <= 1
        assert (pixels[0] == pixels[2]).all()
        assert abs(pixels[0] - pixels[3]).max() > 1
        assert (abs(pixels[0] - pixels[4]).max() > 1) == (same == 1)


def test_the_same_seed_gives_the_same_reply():
    model, settings = tiny_model(), ChatSettings(temperature=1.0, top_p=1.0, max_tokens=12)
    conversation = [TextSplit((5, 6, 7, 8))]
    first, again, other = (sample_replies(model, [conversation], settings, seed)[0] for seed in (1, 1, 2))
    assert first == again and first != other


def test_a_conversation_waits_for_no_library_that_it_does_not_need():
    script = (
        "import sys\n"
        "import charforge.chat.session, charforge.cli.terminal\n"
        "from charforge.families.bagel.checkpoint import build_empty\n"
        "from charforge.families.bagel.config import read_config\n"
        "from charforge.bases.where import MINI\n"
        "build_empty(read_config(MINI))\n"
        "slow = {'peft', 'diffusers', 'transformers', 'bitsandbytes', 'matplotlib', 'torch._dynamo', 'accelerate'}\n"
        "print(sorted(slow & set(sys.modules)))\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
