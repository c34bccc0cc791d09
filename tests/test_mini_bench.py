"""The benchmark of the embedded base: fixed questions, exact scores."""

from __future__ import annotations

import json
import random

import pytest
import torch

from charforge.character import read_character
from charforge.mini import captions, world
from charforge.mini.bench import scores, unseen


def test_the_benchmark_asks_the_same_every_time():
    assert unseen.captioned(20) == unseen.captioned(20)
    assert unseen.captioned(40)[:1] != unseen.captioned(41)[1:2]
    assert unseen.subject(3) == unseen.subject(3)


def test_complete_captions_say_every_attribute_that_is_asked_for():
    for look, text in unseen.captioned(60):
        asked = unseen.stated(look)
        assert ("thing" in asked) == bool(look.thing)
        if look.thing:
            assert world.THINGS[look.thing] in text
        if look.outfit:
            assert look.outfit_color in text
        if not look.place:
            assert look.background in text
        assert captions.mood_phrase(look)[0] in text


@pytest.mark.parametrize("number", [0, 3, 19])
def test_new_scenes_of_a_character_keep_it_and_were_not_shown(number):
    who = unseen.subject(number)
    identity = unseen.identity_words(who.look)
    assert len(who.shown) == 10 and len(who.asked) == 8
    assert all(unseen.identity_words(look) == identity for look in (*who.shown, *who.asked))
    shown = [unseen.scene_words(look) for look in who.shown]
    assert not any(unseen.scene_words(look) in shown for look in who.asked)


def test_three_of_four_characters_are_people_and_all_have_names():
    kinds = [unseen.subject(number).look.kind for number in range(20)]
    assert kinds.count("person") == 15 and len(set(unseen.NAMES)) == 20


def test_scores_count_each_attribute_alike():
    found = [{"color": "red", "kind": "a"}, {"color": "red", "kind": "b"}]
    asked = [{"color": "red", "kind": "a"}, {"color": "blue"}]
    hits = scores.tally(found, asked)
    assert hits == {"color": [True, False], "kind": [True]}
    assert scores.shares(hits) == {"color": 0.5, "kind": 1.0}
    assert scores.mean_share(hits) == 0.75
    assert scores.chances([{"color": "red"}, {"color": "red"}, {"color": "blue"}]) == {"color": 0.6667}


def test_frechet_distance_of_shifted_gaussians_is_the_squared_shift():
    one = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0))
    assert scores.frechet_distance(one, one) == pytest.approx(0, abs=1e-3)
    assert scores.frechet_distance(one + 2, one) == pytest.approx(24, abs=0.1)
    # variance 1 against 4: (2 - 1)^2 for each of six dimensions
    assert scores.frechet_distance(2 * one, one) == pytest.approx(6, rel=0.05)


def test_a_few_shot_character_is_a_folder_that_charforge_reads(tmp_path):
    for library in ("dicebear", "dicebear_styles", "cairosvg"):
        pytest.importorskip(library, reason=f"{library} belongs to the extra `recipe`")
    from charforge.mini.bench.fewshot import write_folder

    write_folder(unseen.subject(1), tmp_path / "bram")
    read = read_character(tmp_path / "bram")
    assert read.name == "Bram" and len(read.pictures) == 10 and len(read.dialogues) == 6
    assert all(picture.caption and "Bram" not in picture.caption for picture in read.pictures)


def test_other_words_for_places_and_sides_are_those_of_the_picture():
    assert set(captions.OTHER_PLACES) == set(world.PLACES)
    rng = random.Random(4)
    seen = set()
    for _ in range(4000):
        look = world.random_look(rng)
        text = captions.caption(look, rng, 1.0)
        if look.side != "beside":
            continue
        thing = world.THINGS[look.thing]
        for words, left in ((f"with {thing} on the left", True), (f"with {thing} on the right", False),
                            (f"to the right of {thing}", True), (f"to the left of {thing}", False)):  # fmt: skip
            if words in text:
                assert look.thing_left == left
                seen.add((words[:6], left))
    assert len(seen) == 4


def test_the_fixed_talk_is_read_whole():
    from charforge.mini.bench.talk import TALK

    lines = [json.loads(line) for line in TALK.read_text("utf-8").splitlines()]
    assert len(lines) == 24 and all(set(line) == {"user", "assistant"} for line in lines)
