"""Frozen lower layers, computed once: the same loss and gradient as reading every text through all layers."""

from __future__ import annotations

import pytest
import torch

from charforge.adapter.load import first_layer_of, load_adapter
from charforge.adapter.lora import add_adapter, lora_config, save_adapter
from charforge.families.bagel.cross_entropy import linear_cross_entropy
from charforge.families.bagel.splits import LookSplit, TextSplit
from charforge.families.bagel.unified import UnifiedBagel
from charforge.sample import Sample
from tests.tiny import CONFIG, tiny_model

FIRST = 2


def _adapted(model: UnifiedBagel) -> dict[str, torch.nn.Parameter]:
    parameters = add_adapter(model.network, lora_config(model.shapes, 4, 8, first_layer=FIRST), seed=0)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if "lora_B" in name:
                parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    return parameters


def _texts(model: UnifiedBagel) -> list[Sample]:
    vision = model.shapes.vision
    patches = torch.randn(4, vision.patch_size**2 * 3, generator=torch.Generator().manual_seed(2))
    look = LookSplit(patches, torch.tensor([0, 1, 2, 3]))
    system, asked = TextSplit((5, 6, 7, 8, 9)), TextSplit((11, 12))
    return [
        (system, asked, TextSplit((13, 14, 15), loss=True)),
        (system, TextSplit((16,)), TextSplit((17, 18), loss=True)),
        (look, asked, TextSplit((19,), loss=True)),
        (look, TextSplit((20, 21)), TextSplit((19,), loss=True)),
        (TextSplit((22, 23), loss=True),),
    ]


def test_only_layers_from_the_first_on_carry_an_adapter_in_the_understanding_expert() -> None:
    names = _adapted(tiny_model())
    assert first_layer_of(names, CONFIG) == FIRST
    assert any(".layers.1." in name for name in names if "_moe_gen" in name)


def test_a_text_that_goes_on_from_its_trunk_has_the_same_loss_and_gradient() -> None:
    model = tiny_model()
    parameters = _adapted(model)
    texts = _texts(model)
    whole, count = model.text_loss(texts)
    whole.backward()
    wanted = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    model.network.zero_grad()
    for chosen in (range(5), (4, 2, 0)):
        prepared = model.read_frozen_layers([texts[index] for index in chosen], FIRST)
        shorter, number = model.text_loss(prepared)
        if len(chosen) == 5:
            assert number == count
            shorter.backward()
            torch.testing.assert_close(shorter, whole, atol=1e-4, rtol=1e-5)
            for name, gradient in wanted.items():
                torch.testing.assert_close(parameters[name].grad, gradient, atol=1e-5, rtol=1e-3)
        else:
            plain, _ = model.text_loss([texts[index] for index in chosen])
            torch.testing.assert_close(shorter, plain, atol=1e-4, rtol=1e-5)
    assert wanted


def test_samples_with_and_without_a_trunk_are_read_from_the_beginning_together() -> None:
    model = tiny_model()
    _adapted(model)
    texts = _texts(model)
    mixed = [*model.read_frozen_layers(texts[:2], FIRST), *texts[2:]]
    torch.testing.assert_close(model.text_loss(mixed)[0], model.text_loss(texts)[0], atol=1e-4, rtol=1e-5)


def test_an_adapter_of_the_upper_layers_is_saved_and_loaded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = tiny_model()
    _adapted(model)
    save_adapter(model.network, lora_config(model.shapes, 4, 8, first_layer=FIRST), tmp_path, "tiny")
    other = tiny_model()
    load_adapter(other, tmp_path, torch.float32)
    texts = _texts(model)
    torch.testing.assert_close(other.text_loss(texts)[0], model.text_loss(texts)[0])


@pytest.mark.parametrize("chunk", [3, 100])
def test_cross_entropy_without_kept_logits_equals_the_plain_one(chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 8, generator=generator)
    labels = torch.randint(50, (7,), generator=generator)
    hidden = torch.randn(7, 8, generator=generator, requires_grad=True)
    wanted = torch.nn.functional.cross_entropy(hidden @ weight.t(), labels, reduction="sum")
    (expected,) = torch.autograd.grad(3 * wanted, hidden)
    total = linear_cross_entropy(hidden, weight, labels, chunk)
    (gradient,) = torch.autograd.grad(3 * total, hidden)
    torch.testing.assert_close(total, wanted)
    torch.testing.assert_close(gradient, expected)
