"""Adapters of several characters in one pass learn what they learn one after the other (docs/studies/one_pass.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tiny import tiny_data, tiny_model

from charforge.sample import Sample
from charforge.train.losses import draw_noise

sys.path.insert(0, str(Path(__file__).parent.parent / "docs" / "studies"))
from one_pass import Batch, SharedLinear, Shares, in_one_pass, joined, one_after_the_other, put_in

TOLERANCE = 1e-4
"""Of a gradient, relative to its adapter's largest value, in fp32: products of more rows add up in another order."""


def batches() -> list[Batch]:
    """Three characters with samples of different number and length; the second's texts begin alike."""
    found = []
    for seed, (texts, pictures) in enumerate(((2, 1), (3, 2), (1, 2))):
        data = tiny_data(seed)
        said: list[Sample] = data.samples("dialogues")[:texts] + data.samples("looks")[:1]
        if seed == 1:
            said = [(said[0][0], *sample[1:]) for sample in said]
        drawn = data.samples("pictures")[:pictures]
        found.append(Batch(said, drawn, draw_noise(drawn, 3.0, torch.Generator().manual_seed(seed))))
    return found


def gradients(compute, chosen: list[Batch]) -> list[dict[str, torch.Tensor]]:
    model = tiny_model()
    shares, parameters = put_in(model, len(chosen))
    compute(model, shares, chosen)
    return [{name: p.grad for name, p in own.items() if p.grad is not None} for own in parameters]


def test_the_gradients_of_one_pass_are_those_of_one_after_the_other() -> None:
    in_turn, together = gradients(one_after_the_other, batches()), gradients(in_one_pass, batches())
    for alone, shared in zip(in_turn, together, strict=True):
        assert alone.keys() == shared.keys() and len(alone) == 2 * 7 * (4 + 2)
        largest = max(float(value.abs().max()) for value in alone.values())
        assert all(value.abs().max() > 0 for value in alone.values())
        for name, value in alone.items():
            torch.testing.assert_close(shared[name], value, rtol=1e-3, atol=TOLERANCE * largest)


def test_a_character_learns_the_same_whoever_is_beside_it() -> None:
    chosen = batches()
    before = gradients(in_one_pass, chosen)
    chosen[2] = Batch(chosen[0].texts, chosen[0].pictures, chosen[0].noise)
    after = gradients(in_one_pass, chosen)
    for number, same in ((0, True), (1, True), (2, False)):
        for name, value in before[number].items():
            assert torch.allclose(after[number][name], value, rtol=1e-3, atol=1e-6) or not same
    assert not torch.allclose(after[2]["language_model.model.layers.0.mlp.up_proj.B"],
                              before[2]["language_model.model.layers.0.mlp.up_proj.B"], atol=1e-6)  # fmt: skip


def test_each_adapter_acts_on_the_tokens_of_its_own_character() -> None:
    base, shares = torch.nn.Linear(4, 3), Shares(3)
    layer = SharedLinear(base, "text", shares, torch.Generator().manual_seed(0))
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    shares.counts = {"text": [2, 0, 4]}
    for rows, character in ((slice(0, 2), 0), (slice(2, 6), 2)):
        added = x[rows] @ (2.0 * layer.lora_B[character] @ layer.lora_A[character]).T
        torch.testing.assert_close(layer(x)[rows], base(x)[rows] + added)
    shares.only = 1
    torch.testing.assert_close(layer(x), base(x) + x @ (2.0 * layer.lora_B[1] @ layer.lora_A[1]).T)


@pytest.mark.parametrize("count", [1, 2])
def test_packs_one_behind_the_other_say_what_each_says(count: int) -> None:
    from charforge.families.bagel.packing import pack
    from charforge.families.bagel.splits import splits_of

    model = tiny_model()
    packs = [pack([splits_of(s) for s in one.texts], model.shapes, share=True) for one in batches()[:count]]
    with torch.no_grad():
        together = model.network(joined(packs)).logits.split([len(one.labels) for one in packs])
        for mine, one in zip(together, packs, strict=True):
            torch.testing.assert_close(mine, model.network(one).logits, rtol=1e-4, atol=1e-4)
