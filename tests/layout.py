"""A checkpoint in the official layout with the published key names and scaled-down shapes, written in a moment."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from official import official_files
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.checkpoint import build_empty
from charforge.families.bagel.config import (
    AutoencoderConfig,
    BagelConfig,
    ExpertConfig,
    SpecialTokens,
    VisionConfig,
    official_config,
)
from charforge.families.bagel.layers import sincos_table
from charforge.families.bagel.tokenizer import QWEN2_WORDS

MARKERS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
# bytes, a few merges, then the markers: as in Qwen2, whose markers follow its vocabulary
WORDS = 300
VOCABULARY = 320  # larger than the tokenizer, as published
EXPERT = ExpertConfig(hidden_size=128, intermediate_size=192)

CONFIG = BagelConfig(
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=32,
    vocab_size=VOCABULARY,
    understanding=EXPERT,
    generation=EXPERT,
    vision=VisionConfig(hidden_size=32, intermediate_size=48, heads=2, layers=2, patches_per_side=10, max_size=140),
    autoencoder=AutoencoderConfig(channels=(32, 32, 32, 32), layers_per_block=1, latent_channels=4),
    special_tokens=SpecialTokens(bos=WORDS + 1, eos=WORDS + 2, image_start=WORDS + 3, image_end=WORDS + 4),
)
TEXT = "ten pictures of a character and a page of dialogue go in; one small adapter comes out that speaks and draws. "


def random_state(config: BagelConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """BF16 weights under the published names, at a scale at which every part matters; tables are sin-cos, rounded."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, meta in build_empty(config).state_dict().items():
        value = torch.randn(meta.shape, generator=generator)
        if name.endswith("pos_embed.pos_embed"):
            value = sincos_table(int(meta.shape[0] ** 0.5), meta.shape[1])
        elif meta.ndim == 1:
            value = 1 + 0.1 * value if "norm" in name and name.endswith("weight") else 0.1 * value
        else:
            value = value / meta.shape[-1] ** 0.5
        state[name] = value.bfloat16()
    return state


def write_checkpoint(folder: Path, config: BagelConfig = CONFIG, shards: int = 0, tokenizer_json: bool = True) -> Path:
    """Write ``config`` as the official layout does: one ``ema.safetensors``, or ``shards`` with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    state = random_state(config)
    if shards:
        names, weight_map = sorted(state), {}
        for number in range(shards):
            file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
            part = {name: state[name] for name in names[number::shards]}
            save_file(part, folder / file, {"format": "pt"})
            weight_map |= dict.fromkeys(part, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    else:
        save_file(state, folder / "ema.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        autoencoder = Autoencoder(config.autoencoder).official_state()
    save_file(autoencoder, folder / "ae.safetensors")
    for name, content in official_files(config).items():
        (folder / name).write_text(json.dumps(content))
    write_tokenizer(folder, tokenizer_json)
    return folder


def write_tokenizer(folder: Path, tokenizer_json: bool = True) -> None:
    """A small BPE trained as Qwen2's was: ``vocab.json``, ``merges.txt``, ``tokenizer_config.json``, and, if asked,
    the ``tokenizer.json`` that says the same."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(QWEN2_WORDS), behavior="isolated", invert=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    assert tokenizer.get_vocab_size() == WORDS
    tokenizer.model.save(str(folder))
    tokenizer.add_special_tokens([AddedToken(marker, special=True, normalized=False) for marker in MARKERS])
    added = {str(WORDS + number): {"content": marker, "special": True} for number, marker in enumerate(MARKERS)}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    if tokenizer_json:
        tokenizer.save(str(folder / "tokenizer.json"))


# llm_config.json and vit_config.json of BAGEL-7B-MoT (bagel.md section 1)
REAL_LLM = {
    "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 3584, "intermediate_size": 18944,
    "max_position_embeddings": 32768, "model_type": "qwen2", "num_attention_heads": 28, "num_hidden_layers": 28,
    "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "tie_word_embeddings": False,
    "vocab_size": 152064,
}  # fmt: skip
REAL_VISION = {
    "hidden_size": 1152, "image_size": 980, "intermediate_size": 4304, "model_type": "siglip_vision_model",
    "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14,
}  # fmt: skip


def real_config() -> BagelConfig:
    """BAGEL-7B-MoT, from its two files alone: its early config.json says nothing."""
    from charforge.families.bagel.config import BAGEL_TOKENS

    return official_config(REAL_LLM, REAL_VISION, {}, BAGEL_TOKENS)
