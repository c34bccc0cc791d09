"""A small bundle, and one for a base in the official layout: what tests of exports begin with."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_parts import RANK, adapter_bytes, manifest, png
from layout import CONFIG, write_checkpoint
from safetensors.torch import save
from test_bundle import DIALOGUES

from charforge.adapter.names import tensor_shapes
from charforge.bases.base import Base, load_base
from charforge.bundle import Bundle, read_bundle, write_bundle


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(adapter_bytes())
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 4}))
    return write_bundle(tmp_path / "run" / "pip.charx", manifest(), folder, DIALOGUES, png())


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def random_adapter(linears: dict[str, tuple[int, int]], rank: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = tensor_shapes(linears, rank)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def official(tmp_path: Path, rank: int = 4, shards: int = 0) -> tuple[Base, Bundle]:
    """A base in the official layout and a bundle of an adapter for it."""
    base = load_base(str(write_checkpoint(tmp_path / "base", shards=shards)), dtype=torch.float32)
    state = {name: tensor.bfloat16() for name, tensor in random_adapter(CONFIG.adapter_linears(0), rank).items()}
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(save(state, {"format": "pt"}))
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": CONFIG.adapter_pattern()}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    told = manifest()
    info = told.base.model_copy(update={"name": base.name, "content_hash": base.content_hash})
    told = told.model_copy(
        update={"base": info, "adapter": told.adapter.model_copy(update={"rank": rank, "alpha": 2 * rank})}
    )
    return base, read_bundle(write_bundle(tmp_path / "a.charx", told, folder, DIALOGUES, png()))


@torch.no_grad()
def loss_of(model: Any) -> torch.Tensor:
    return model.text_loss([(model.text("hello there", "user", False), model.text("I am Pip.", "assistant", True))])[0]
