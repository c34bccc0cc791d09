"""What a person uses, on the device: replies, pictures, an adapter from its files, encoders that wait on the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from on_device import LORA, lively, tiny_on
from pretend import AVAILABLE, CARD, pretend_card
from torch import nn

from charforge.adapter.load import load_adapter
from charforge.adapter.lora import save_adapter
from charforge.bases.drawing import draw_prompts
from charforge.chat.replies import sample_replies
from charforge.families.bagel.splits import TextSplit
from charforge.families.bagel.unified import UnifiedBagel
from charforge.pixels import to_image
from charforge.settings import ChatSettings

PROMPTS = ["Pip in a forest , wearing a red coat", "Pip on a beach"]
TALK = [[TextSplit((5, 6, 7, 8))], [TextSplit((9, 9))]]


def pixels(model: UnifiedBagel) -> list[np.ndarray]:
    return [np.asarray(picture).astype(int) for picture in draw_prompts(model, PROMPTS, [1, 2])]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_replies_are_those_of_the_cpu(device: str, temperature: float) -> None:
    settings = ChatSettings(temperature=temperature, max_tokens=12)
    said = [sample_replies(tiny_on(where), TALK, settings, 1) for where in (device, "cpu")]
    assert said[0] == said[1] and any(said[0])


@pytest.mark.parametrize("precision", ["bf16", "int8", "nf4"])
def test_replies_and_pictures_in_every_precision(real_device: str, precision: str) -> None:
    model = tiny_on(real_device, precision)
    said = [sample_replies(model, TALK, ChatSettings(temperature=0.8, max_tokens=12), 1) for _ in range(2)]
    assert said[0] == said[1] and any(said[0])
    one, again = pixels(model), pixels(model)
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert all(picture.std() > 1 for picture in one)


def test_a_token_is_one_read_of_the_device() -> None:
    if not AVAILABLE:
        pytest.skip("the pretend card needs torch 2.13")
    with pretend_card() as reads:
        model = tiny_on(CARD)
        for temperature in (0.0, 0.8):
            reads.clear()
            sample_replies(model, TALK, ChatSettings(temperature=temperature, max_tokens=8), 1)
            assert 0 < reads.total() <= 8


def test_an_adapter_from_its_files_draws_and_speaks_as_on_the_cpu(device: str, tmp_path: Path) -> None:
    trained = tiny_on("cpu")
    lively(trained)
    save_adapter(trained.network, LORA, tmp_path, "tiny")
    found = []
    for where in (device, "cpu"):
        model = tiny_on(where)
        bare = pixels(model)
        load_adapter(model, tmp_path, model.dtype)
        model.pack_for_use()
        found.append((pixels(model), sample_replies(model, TALK, ChatSettings(temperature=0, max_tokens=8), 1)))
        assert any(abs(a - b).max() > 1 for a, b in zip(found[-1][0], bare, strict=True))
    (ours, said), (expected, expected_said) = found
    assert said == expected_said
    assert all(abs(a - b).max() <= 2 for a, b in zip(ours, expected, strict=True))


def test_encoders_that_wait_on_the_host_change_nothing_and_stay_there(device: str) -> None:
    model = tiny_on(device)
    image = to_image(torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    before, looked = pixels(model), model.look(image)
    model.park_encoders()
    weights = [parameter for module in model._encoders() for parameter in module.parameters()]
    assert {parameter.device.type for parameter in weights} == {"cpu"}
    places = [parameter.data_ptr() for parameter in weights]
    after, again = pixels(model), model.look(image)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert torch.equal(looked.features, again.features)
    # the very same memory: frozen weights are not carried back
    now = [parameter for module in model._encoders() for parameter in module.parameters()]
    assert {parameter.device.type for parameter in now} == {"cpu"} and [p.data_ptr() for p in now] == places


def test_parked_encoders_leave_the_memory_of_a_card(cuda: str) -> None:
    model = tiny_on(cuda)
    # larger than what an allocator rounds to
    model.autoencoder.weight_of_its_own = nn.Parameter(torch.zeros(2**24, device=cuda), requires_grad=False)
    held = torch.cuda.memory_allocated()
    model.park_encoders()
    parked = torch.cuda.memory_allocated()
    assert held - parked >= 2**26
    pixels(model)
    assert torch.cuda.memory_allocated() - parked < 2**22


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "nf4"])
def test_recorded_steps_say_and_draw_the_same(cuda: str, precision: str) -> None:
    found = []
    for recorded in (False, True):
        model = tiny_on(cuda, precision)
        model.use_cuda_graphs(recorded)
        # more tokens than one look through the cache, so that a second graph takes over from the first
        settings = ChatSettings(temperature=0.8, max_tokens=150)
        found.append((sample_replies(model, TALK, settings, 1), pixels(model)))
    assert found[0][0] == found[1][0]
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(found[0][1], found[1][1], strict=True))
