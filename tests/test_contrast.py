"""Pairs of pictures that differ in one word, and what is learned from them."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from tiny import CONFIG, tiny_network

from charforge.errors import InputError
from charforge.families.bagel.context import empty_context, extend_context
from charforge.families.bagel.splits import TextSplit
from charforge.recipe.contrast import (
    COMPLETENESS,
    SHARES,
    Contrast,
    Contrasts,
    _stack_captions,
    contrast_loss,
    make_contrasts,
    random_contrast,
    read_captions,
    read_contrasts,
    window,
    word_pair,
)


def contrasts(count: int) -> list[Contrast]:
    rng = random.Random(0)
    return [random_contrast(rng) for _ in range(count)]


def test_a_pair_differs_in_one_attribute_alone():
    pairs = contrasts(400)
    for pair in pairs:
        changed = [f.name for f in fields(pair.one) if getattr(pair.one, f.name) != getattr(pair.other, f.name)]
        assert changed == [pair.attribute]
    seen = Counter(pair.attribute for pair in pairs)
    assert all(abs(seen[attribute] / 400 - share) < 0.08 for attribute, share in SHARES.items())


def test_both_captions_are_alike_but_for_it():
    rng = random.Random(1)
    for pair in contrasts(100):
        for completeness in (COMPLETENESS, 0.95):
            one, other = (caption.split(", ") for caption in word_pair(pair, rng, completeness))
            assert one != other and len(one) == len(other)
            assert sum(a != b for a, b in zip(one, other, strict=True)) == 1


def test_nearly_all_of_the_difference_is_in_the_window():
    pytest.importorskip("dicebear", reason="needs the extra `recipe`")
    pytest.importorskip("cairosvg", reason="needs the extra `recipe`")
    from charforge.recipe.drawing import draw

    inside: dict[str, list[float]] = {attribute: [] for attribute in SHARES}
    for pair in contrasts(80):
        one, other = (np.asarray(draw(look)).astype(float) for look in (pair.one, pair.other))
        energy = ((one - other) ** 2).mean(-1).reshape(8, 16, 8, 16).sum((1, 3)).reshape(-1)
        inside[pair.attribute].append(energy[window(pair, 8)].sum() / energy.sum())
    for attribute, shares in inside.items():
        assert np.mean(shares) > 0.85, (attribute, np.mean(shares))


def test_every_window_has_as_many_tokens():
    assert {len(set(window(pair, 8))) for pair in contrasts(60)} == {12}


def data(same: bool, deaf: bool = False) -> Contrasts:
    """Three pairs: with ``same`` nothing differs, and with ``deaf`` only the pictures do."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, 2, 16, CONFIG.latent_token_size)).astype(np.float16)
    words = (7, 7 if same or deaf else 17)
    captions = [TextSplit((*[8] * pair, 5, word + pair)) for pair in range(3) for word in words]
    if same:
        tokens[:, 1] = tokens[:, 0]
    contexts = read_captions(tiny_network(), captions, lambda done, count: None)
    windows = torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13]])
    return Contrasts(tokens, windows, list(zip(contexts[::2], contexts[1::2], strict=True)))


def test_captions_read_once_are_read_as_stack_captions_others():
    model = tiny_network()
    captions = [TextSplit(ids) for ids in ((5, 6), (9, 8, 7, 6, 5), (4, 9, 9))]
    told: list[tuple[int, int]] = []
    together = _stack_captions(read_captions(model, captions, lambda *done: told.append(done)), torch.zeros(1))
    expected = extend_context(model, empty_context(3), captions)
    assert told == [(3, 3)] and together.positions == expected.positions
    assert torch.equal(together.valid, expected.valid)
    for (k, v), (key, value) in zip(together.cache or [], expected.cache or [], strict=True):
        torch.testing.assert_close(k[together.valid], key[expected.valid], rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(v[together.valid], value[expected.valid], rtol=1e-2, atol=1e-2)


def test_captions_read_in_every_step_teach_what_those_read_once_do():
    model, pairs = tiny_network(), data(same=False)
    tokens = [TextSplit((*[8] * pair, 5, word + pair)) for pair in range(3) for word in (7, 17)]
    unread = replace(pairs, captions=list(zip(tokens[::2], tokens[1::2], strict=True)))
    one, other = (contrast_loss(model, each, 6, 0.85, torch.Generator().manual_seed(0)) for each in (pairs, unread))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_nothing_is_lost_where_nothing_differs():
    loss = contrast_loss(tiny_network(), data(same=True), 6, 0.85, torch.Generator().manual_seed(0))
    assert loss.item() < 1e-9


def test_a_model_that_does_not_read_loses_the_whole_difference():
    pairs = data(same=False, deaf=True)
    loss = contrast_loss(tiny_network(), pairs, 60, 0.85, torch.Generator().manual_seed(0)).item()
    shown = pairs.tokens.astype(np.float32)
    whole = np.mean([((shown[i, 0] - shown[i, 1])[rows] ** 2).mean() for i, rows in enumerate(pairs.windows.numpy())])
    # the mean over sixty draws of three pairs
    assert loss == pytest.approx(whole, rel=0.2)


def test_reading_is_learned_from_it():
    model, pairs = tiny_network(), data(same=False)
    learned = [p for name, p in model.named_parameters() if "_moe_gen" in name or name.startswith("llm2vae")]
    for parameter in learned:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(learned, lr=1e-2)
    losses = []
    for step in range(150):
        loss = contrast_loss(model, pairs, 6, 0.85, torch.Generator().manual_seed(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


def test_pairs_are_made_and_read_back(tmp_path, monkeypatch):
    pytest.importorskip("dicebear", reason="needs the extra `recipe`")
    pytest.importorskip("cairosvg", reason="needs the extra `recipe`")
    from charforge.bases.base import load_base
    from charforge.recipe import contrast
    from charforge.recipe.network import take_apart

    model = take_apart(load_base("mini"))
    with pytest.raises(InputError, match=r"run python -m charforge\.recipe contrasts first"):
        read_contrasts(tmp_path, model.network, model.tokenizer, lambda done, count: None)
    monkeypatch.setattr(contrast, "load_trained", lambda folder: model.autoencoder)
    (tmp_path / "data").mkdir()
    told: list[int] = []
    make_contrasts(tmp_path, 3, 5, told.append)
    made = read_contrasts(tmp_path, model.network, model.tokenizer, lambda done, count: None)
    assert told == [3] and made.tokens.shape == (3, 2, 64, 64) and made.windows.shape == (3, 12)
    lines = [json.loads(line) for line in (tmp_path / "data/contrasts.jsonl").read_text().splitlines()]
    rng = random.Random("contrasts 5")
    assert lines[0]["one"] == asdict(random_contrast(rng).one)
    assert len(made.captions) == 3
