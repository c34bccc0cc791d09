"""The benchmark of the embedded base: fixed questions, exact scores."""

from __future__ import annotations

import json
import random

import pytest
import torch
from safetensors.torch import load_file

from charforge.bases.base import MINI
from charforge.character import read_character
from charforge.errors import InputError
from charforge.families.bagel.checkpoint import rounded_rows
from charforge.recipe import captions, world
from charforge.recipe.answers import fold_strength, read_averages
from charforge.recipe.bench import scores, unseen
from charforge.recipe.unpack import unpack_base


def test_the_benchmark_asks_the_same_every_time():
    # however many are asked for: --quick asks the first of the same
    assert unseen.choose_captions(20) == unseen.choose_captions(40)[:20]
    assert len({text for _, text in unseen.choose_captions(200)}) == 200
    assert unseen.subject(3) == unseen.subject(3)


def test_complete_captions_say_every_attribute_that_is_asked_for():
    for look, text in unseen.choose_captions(60):
        asked = unseen.stated_words(look)
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
    from charforge.recipe.bench.fewshot import write_folder

    write_folder(unseen.subject(1), tmp_path / "bram")
    read = read_character(tmp_path / "bram")
    assert read.name == "Bram" and len(read.pictures) == 10 and len(read.dialogues) == 6
    assert all(picture.caption and "Bram" not in picture.caption for picture in read.pictures)


def test_few_shot_numbers_pool_all_characters():
    for library in ("dicebear", "dicebear_styles", "cairosvg"):
        pytest.importorskip(library, reason=f"{library} belongs to the extra `recipe`")
    from charforge.recipe.bench.fewshot import FewShot, pool_characters

    one = FewShot({"hair": [True, True], "skin": [True, False]}, {"where": [True]}, [False, True], {"kind": [True]}, 10)
    two = FewShot({"hair": [False, False]}, {"where": [False]}, [False, False], {"kind": [True]}, 20)
    found = pool_characters([one, two], {"kind": [True, False]})
    assert found["fewshot_identity_by_attribute"] == {"hair": 0.5, "skin": 0.5}
    assert found["fewshot_identity"] == found["fewshot_scene"] == 0.5 and found["copy_rate"] == 0.25
    assert (found["control_accuracy_adapter_on"], found["control_accuracy_adapter_off"]) == (1.0, 0.5)
    assert found["fewshot_characters"] == 2 and found["train_seconds"] == 15


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
    from charforge.recipe.bench.talk import TALK

    lines = [json.loads(line) for line in TALK.read_text("utf-8").splitlines()]
    assert len(lines) == 24 and all(set(line) == {"user", "assistant"} for line in lines)


def test_unpacked_weights_pack_to_what_ships(tmp_path):
    unpack_base(MINI, tmp_path)
    generation = rounded_rows(read_averages(tmp_path / "generation" / "checkpoint.safetensors"))
    vision = read_averages(tmp_path / "vision" / "checkpoint.safetensors")
    reading = rounded_rows(fold_strength(vision))
    for made, file in ((generation, "generation"), (reading, "reading")):
        shipped = load_file(MINI / f"{file}.safetensors")
        for name, tensor in made.items():
            torch.testing.assert_close(tensor, shipped[name], rtol=1e-6, atol=0)
    assert json.loads((tmp_path / "vision" / "log.jsonl").read_text("utf-8")).keys() == {"shipped"}
    with pytest.raises(InputError, match="overwritten"):
        unpack_base(MINI, tmp_path)


@pytest.mark.slow
def test_the_whole_benchmark_in_small(tmp_path):
    for library in ("dicebear", "dicebear_styles", "cairosvg", "skimage"):
        pytest.importorskip(library, reason=f"{library} belongs to the extra `recipe`")
    from charforge.recipe.bench.run import Size, bench
    from charforge.recipe.probe import SHIPPED

    told: list[str] = []
    found = bench(SHIPPED, tmp_path, Size(captions=3, questions_about=3, characters=0, photos=2), [], told.append)
    assert 0.5 < found["t2i_attribute_accuracy"] <= 1 and found["probe_on_renders"] > 0.9
    assert 0.98 < found["chat_perplexity_ratio"] < 1.02
    assert found["psnr_drawings"] > 27 and found["psnr_photos"] > 26
    assert 0 <= found["vqa_yes_no"] <= 1 and found["frechet_distance"] > 0
    assert len(told) == 3 and "fewshot_identity" not in found
