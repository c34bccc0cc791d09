"""The network of `mini` as the recipe takes it: fresh, or out of the packed base."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import load_file

from charforge.bases.base import Base, compute_dtype
from charforge.families.bagel.checkpoint import build_empty, set_tensor
from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.context import empty_context, extend_context
from charforge.families.bagel.layers import sincos_table
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.splits import TextSplit
from charforge.families.bagel.unified import UnifiedBagel


def native_autocast(device: str) -> torch.autocast:
    """bf16 autocast where :func:`~charforge.bases.base.compute_dtype` is bf16; elsewhere it would take up to seventy
    times as long."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=compute_dtype(device) == torch.bfloat16)


def take_apart(base: Base) -> UnifiedBagel:
    """The model of ``base`` with its network, autoencoder and tokenizer: the recipe measures each on its own.

    Raises TypeError for a base of another family.
    """
    if not isinstance(base.model, UnifiedBagel):
        raise TypeError(f"the recipe makes and measures a BAGEL network, and {base.name} is none")
    return base.model


def learns_to_draw(name: str) -> bool:
    """Whether a parameter belongs to the generation side."""
    return "_moe_gen" in name or name.startswith(("vae2llm", "llm2vae", "time_embedder"))


def build_for_pretraining(config: BagelConfig, language_file: Path, seed: int, device: str = "cpu") -> BagelModel:
    """Frozen SmolLM2 in ``compute_dtype``, a fresh generation expert in fp32, no vision weights yet (zeros)."""
    model, frozen = build_empty(config), compute_dtype(device)
    language = load_file(language_file)
    generator = torch.Generator().manual_seed(seed)
    hidden = config.generation.hidden_size
    for name, meta in list(model.state_dict().items()):
        if name in language:
            set_tensor(model, name, language[name].to(frozen))
        elif name == "latent_pos_embed.pos_embed":
            set_tensor(model, name, sincos_table(config.max_latent_size, hidden))
        elif not learns_to_draw(name):
            set_tensor(model, name, torch.zeros(meta.shape, dtype=frozen))
        elif name.endswith("bias") or name.startswith("llm2vae"):
            set_tensor(model, name, torch.zeros(meta.shape))
        elif meta.ndim == 1:
            set_tensor(model, name, torch.ones(meta.shape))
        else:
            weight = torch.randn(meta.shape, generator=generator) / math.sqrt(meta.shape[1])
            if "o_proj" in name or "down_proj" in name:
                weight = weight / math.sqrt(2 * len(config.generation_layers or range(config.layers)))
            set_tensor(model, name, weight)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(learns_to_draw(name))
    return model.to(device)


@torch.no_grad()
def match_text_scale(model: BagelModel, texts: list[TextSplit]) -> None:
    """Start the generation expert's keys and values at the scale of the text's, layer by layer.

    SmolLM2's values grow from rms 0.05 to 2 over its depth; a fresh expert with unit values would be deaf to the
    first layers and drowned in the last (mini-feasibility.md normalised them instead).
    """
    context = extend_context(model, empty_context(len(texts)), texts)
    assert context.cache is not None
    for index, (key, value) in enumerate(context.cache):
        if not model.config.has_generation(index):
            continue
        real = context.valid.clone()
        real[:, 0] = False  # the first token is an attention sink with extreme values
        key_rms = key[real].float().pow(2).mean().sqrt()
        value_rms = value[real].float().pow(2).mean().sqrt()
        attention = model.language_model.model.layers[index].get_submodule("self_attn")
        attention.get_submodule("k_norm_moe_gen").get_parameter("weight").mul_(key_rms)
        attention.get_submodule("q_norm_moe_gen").get_parameter("weight").div_(key_rms)
        attention.get_submodule("v_proj_moe_gen").get_parameter("weight").mul_(value_rms)
        attention.get_submodule("o_proj_moe_gen").get_parameter("weight").div_(value_rms)
