"""A tiny random base of the shape of ``mini`` (experts of different width, drawing on some layers), for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.checkpoint import build_empty, set_tensor
from charforge.families.bagel.config import (
    AutoencoderConfig,
    BagelConfig,
    ExpertConfig,
    SamplingConfig,
    SpecialTokens,
    VisionConfig,
)
from charforge.families.bagel.layers import grid_position_ids
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.splits import LookSplit, TextSplit
from charforge.families.bagel.tokenizer import Tokenizer
from charforge.families.bagel.unified import UnifiedBagel
from charforge.sample import Sample, Target
from charforge.settings import SftSettings
from charforge.train.samples import Dataset, alone

CONFIG = BagelConfig(
    layers=4,
    heads=4,
    kv_heads=2,
    head_dim=16,
    vocab_size=96,
    tie_word_embeddings=True,
    understanding=ExpertConfig(hidden_size=128, intermediate_size=192, qk_norm=False, qkv_bias=False),
    generation=ExpertConfig(hidden_size=64, intermediate_size=128, qk_norm=True, qkv_bias=False),
    generation_layers=(1, 3),
    vision=VisionConfig(
        hidden_size=32,
        intermediate_size=48,
        heads=2,
        layers=1,
        patch_size=8,
        patches_per_side=4,
        max_size=32,
        min_size=16,
    ),
    autoencoder=AutoencoderConfig(channels=(16, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4),
    max_latent_size=4,
    special_tokens=SpecialTokens(bos=1, eos=2, image_start=3, image_end=4),
    sampling=SamplingConfig(steps=4, height=16, width=16, cfg_interval=(0.0, 1.0)),
)


def tiny_network(seed: int = 0, dtype: torch.dtype = torch.float32) -> BagelModel:
    """Random weights at a scale at which every part matters."""
    model = build_empty(CONFIG)
    generator = torch.Generator().manual_seed(seed)
    for name, meta in list(model.state_dict().items()):
        value = torch.randn(meta.shape, generator=generator)
        if meta.ndim == 1:
            value = 1 + 0.1 * value if "norm" in name else 0.1 * value
        else:
            value = value / meta.shape[-1] ** 0.5
        set_tensor(model, name, value.to(dtype))
    return model.eval()


WORDS = "Pip Yes No . , ? Is the character in a forest desert on beach wearing red blue coat frowning Where is it In A"


@cache
def tokenizer() -> Tokenizer:
    words = ["[UNK]", "<s>", "</s>", "<v>", "</v>", *dict.fromkeys(WORDS.split())]
    fast = FastTokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    fast.pre_tokenizer = Whitespace()
    file = Path(mkdtemp()) / "tokenizer.json"
    fast.save(str(file))
    return Tokenizer(file, chat_roles=False)


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32) -> UnifiedBagel:
    """The same with an autoencoder and a tokenizer: what the loops train."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        autoencoder = Autoencoder(CONFIG.autoencoder).eval().requires_grad_(False)
    return UnifiedBagel(tiny_network(seed, dtype), autoencoder, tokenizer())


def tiny_data(seed: int = 0) -> Dataset:
    """A few random samples of every kind."""
    generator = torch.Generator().manual_seed(seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, 96, (count,), generator=generator).tolist())

    def look() -> LookSplit:
        return LookSplit(torch.randn(4, 192, generator=generator), grid_position_ids(2, 2, 4))

    def target() -> Target:
        return Target(torch.randn(4, 16, generator=generator), grid_position_ids(2, 2, 4))

    def dialogue() -> tuple[TextSplit, ...]:
        return (TextSplit(ids(6)), TextSplit(ids(4)), TextSplit(ids(5), loss=True))

    kinds = {
        "dialogues": [dialogue() for _ in range(5)],
        "knowledge": [dialogue() for _ in range(3)],
        "looks": [(look(), *dialogue()[1:]) for _ in range(3)],
        "pictures": [(TextSplit(ids(5)), target()) for _ in range(4)],
        "replay_texts": [dialogue()[1:] for _ in range(2)],
        "replay_pictures": [(TextSplit(ids(7)), target()) for _ in range(4)],
        "held_out_texts": [dialogue() for _ in range(2)],
        "held_out_pictures": [(TextSplit(ids(6)), target())],
    }
    return Dataset({name: alone(samples) for name, samples in kinds.items()})


def changed(data: Dataset, **kinds: list[Sample]) -> Dataset:
    """``data`` with other samples of some kinds."""
    return Dataset({**data.entries, **{name: alone(samples) for name, samples in kinds.items()}})


def tiny_settings(**changes: object) -> SftSettings:
    """Short and lively."""
    values: dict[str, object] = {
        "steps": 6, "dialogues": 2, "pictures": 2, "replay_pictures": 2, "draws": 2, "warmup": 2,
        "text_learning_rate": 3e-3, "picture_learning_rate": 3e-3,
        "evaluate_every": 2, "preview_every": 100, "checkpoint_every": 1,
    }  # fmt: skip
    return SftSettings(**(values | changes))  # type: ignore[arg-type]
