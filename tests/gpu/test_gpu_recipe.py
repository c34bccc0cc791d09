"""What the recipe of ``mini`` does on a device: low-rank additions to loaded weights, training that goes on."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from on_device import off, tiny_on
from pretend import CARD
from tiny import CONFIG

from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.checkpoint import add_low_rank
from charforge.families.bagel.splits import TextSplit
from charforge.recipe import autoencoder, generation
from charforge.recipe.generation import CaptionedLatents, GenerationRecipe, train_generation
from charforge.recipe.network import learns_to_draw

NAME = "language_model.model.layers.0.mlp.up_proj"


def test_additions_join_weights_that_are_on_the_device(device: str) -> None:
    found = []
    for where in (device, "cpu"):
        model, generator = tiny_on(where).network, torch.Generator().manual_seed(0)
        before = model.get_parameter(f"{NAME}.weight").detach().clone()
        a, b = torch.randn(2, 128, generator=generator), torch.randn(192, 2, generator=generator)
        add_low_rank(model, {f"{NAME}.lora_A": a, f"{NAME}.lora_B": b})
        found.append(model.get_parameter(f"{NAME}.weight").detach())
        assert off(found[-1], before) > 0.1
    assert off(*found) < 1e-5


def test_training_of_the_generation_expert_goes_on(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == CARD:
        # it computes in fp32
        monkeypatch.setattr(generation, "native_autocast", lambda kind: nullcontext())
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((6, 16, CONFIG.latent_token_size)).astype(np.float16)
    captions = [[TextSplit((5 + row, 9))] for row in range(6)]
    data = CaptionedLatents(tokens, captions, np.ones((6, 1, 16), np.float32), torch.ones(6))
    for number, minutes in enumerate((1e-6, 1e6)):
        model = tiny_on(device).network
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(learns_to_draw(name))
        recipe = GenerationRecipe(minutes=minutes, captions=2, draws=2, save_every=1)
        if number:
            # the second sitting has time without end: it is ended after its first step
            monkeypatch.setattr(generation, "_save", ended_after(generation._save))
            with pytest.raises(KeyboardInterrupt):
                train_generation(model, data, None, recipe, tmp_path)
        else:
            train_generation(model, data, None, recipe, tmp_path)
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()] == [1]
    again = generation._resume(tmp_path, {}, {}, torch.optim.SGD([torch.zeros(1)]))
    assert again[0] == 2 and again[1] > 0


def ended_after(save):
    def saved(*arguments: object) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    return saved


def test_pictures_are_encoded_on_the_device(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == CARD:
        monkeypatch.setattr(autoencoder, "native_autocast", lambda kind: nullcontext())
    pictures = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3)).astype(np.uint8)
    found = []
    for where in (device, "cpu"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Autoencoder(CONFIG.autoencoder).eval().requires_grad_(False)
        found.append(torch.from_numpy(autoencoder.encode_all(model, pictures, where).astype(np.float32)))
    assert off(*found) < 0.02
