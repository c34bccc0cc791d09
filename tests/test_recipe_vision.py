"""Rivals: two pictures asked the same questions; and a vision stage that leaves the language model's addition alone."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace

import numpy as np
import pytest

from charforge.recipe import asking, world
from charforge.recipe.world import Look


def pairs(count: int) -> list[tuple[Look, Look]]:
    rng = random.Random(0)
    looks = [world.random_look(rng) for _ in range(count)]
    return [(look, asking.rival(look, rng)) for look in looks]


def test_a_rival_is_the_same_character_in_the_same_place():
    varies = dict.fromkeys(("eyes", "mouth", "outfit", "outfit_color", "pants", "shoes", "thing", "side"), "")
    for one, other in pairs(300):
        assert replace(one, **varies, variation=0) == replace(other, **varies, variation=0)
        first, second = asking.details(one), asking.details(other)
        assert first.keys() == second.keys()
        assert [kind for kind in first if first[kind] == second[kind]] == ["place"]


def test_only_the_picture_tells_the_answers_apart():
    rng = random.Random(1)
    confirmed = {"Yes.": 0, "No.": 0}
    for one, other in pairs(300):
        asked = asking.rival_questions(one, other, rng)
        assert len(asked) == len(asking.details(one)) - 1
        for (question, answer), (again, rival_answer) in asked:
            if answer in confirmed:
                assert question == again and {answer, rival_answer} == set(confirmed)
                confirmed[answer] += 1
            else:
                assert answer != rival_answer or question != again
    assert confirmed["Yes."] / sum(confirmed.values()) == pytest.approx(0.5, abs=0.08)


def test_what_is_small_counts_more_among_words():
    pytest.importorskip("dicebear", reason="needs the extra `recipe`")
    pytest.importorskip("cairosvg", reason="needs the extra `recipe`")
    import torch

    from charforge.bases.base import load_base
    from charforge.recipe import vision
    from charforge.recipe.answers import Pictures
    from charforge.recipe.drawing import draw
    from charforge.recipe.network import take_apart

    model = take_apart(load_base("mini"))
    looks = [world.random_look(random.Random(seed), "person") for seed in range(4)]
    data = Pictures(np.stack([np.asarray(draw(look)) for look in looks]), [{"look": asdict(look)} for look in looks])
    embed = model.network.language_model.model.embed_tokens.weight

    def loss(hard: float, names: set[str] | None = None) -> float:
        values = {name: words for name, words in vision.word_values(data).items() if names is None or name in names}
        reader = vision.WordReader(values, embed, model.tokenizer)
        for name, query in reader.queries.items():
            query.data = torch.randn(embed.shape[1], generator=torch.Generator().manual_seed(len(name)))
        with torch.no_grad():
            return vision.words_loss(model.network, reader, data, [0, 1, 2, 3], hard).item()

    small = {"thing", "mouth"}  # nobody here has a top
    assert loss(1e6) == pytest.approx(loss(1.0, small), rel=1e-4)
    assert loss(1.0) != pytest.approx(loss(1.0, small), rel=1e-2)


def test_the_vision_stage_can_leave_reading_alone(tmp_path):
    pytest.importorskip("dicebear", reason="needs the extra `recipe`")
    pytest.importorskip("cairosvg", reason="needs the extra `recipe`")
    import torch
    from safetensors.torch import load_file

    from charforge.bases.base import MINI
    from charforge.recipe import dataset
    from charforge.recipe.drawing import draw
    from charforge.recipe.unpack import unpack_base
    from charforge.recipe.vision import VisionRecipe, train_vision

    unpack_base(MINI, tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    for name, span in (("images", range(4)), ("held_out", range(4, 5))):
        looks = [dataset.look_of(index, 0) for index in span]
        np.save(data / f"{name}.npy", np.stack([np.asarray(draw(look, dataset.SIZE)) for look in looks]))
        records = [json.dumps(dataset.record(look, index, 0)) for index, look in zip(span, looks, strict=True)]
        (data / f"{'records' if name == 'images' else name}.jsonl").write_text("\n".join(records))
    before = load_file(tmp_path / "vision" / "checkpoint.safetensors")
    # time is what ends a run: 0.05 s are over after one step
    few = {"words_beside": 2, "answers_batch": 1, "rivals": 1, "words_share": 0.0, "ema": 0.0, "learning_rate": 0.1}
    found = train_vision(tmp_path, VisionRecipe(minutes=0.05 / 60, reading=False, **few))
    after = load_file(tmp_path / "vision" / "checkpoint.safetensors")
    assert 0 <= found["vqa_yes_no"] <= 1
    assert not (tmp_path / "vision" / "own_texts.jsonl").exists()
    assert any(".lora_" in name for name in before)
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert "now.connector.fc2.weight" in changed
    assert not [name for name in changed if ".lora_" in name]
