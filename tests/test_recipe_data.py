"""The training data of the embedded base: its language is true and its pictures repeat."""

from __future__ import annotations

import hashlib
import json
import random
import re
from dataclasses import replace

import numpy as np
import pytest

from charforge.bases.can_draw import KIND_NOUN
from charforge.errors import InputError
from charforge.grammar import has_detail
from charforge.recipe import asking, captions, dataset, world
from charforge.recipe.world import Look

PERSON = Look(
    kind="person", skin="peach", hair="short", hair_color="brown", eyes="star", mouth="smile",
    outfit="hoodie", outfit_color="orange", pants="blue", shoes="white", background="orange",
)  # fmt: skip


def looks(count: int, seed: int = 0) -> list[Look]:
    rng = random.Random(seed)
    return [world.random_look(rng) for _ in range(count)]


@pytest.fixture
def drawing():
    """The drawing module, where the libraries of the extra `recipe` are installed."""
    for library in ("dicebear", "dicebear_styles", "cairosvg"):
        pytest.importorskip(library, reason=f"{library} belongs to the extra `recipe`")
    from charforge.recipe import drawing

    return drawing


# language


def test_captions_are_plain_words_with_right_articles():
    rng = random.Random(1)
    for look in looks(2000):
        text = captions.caption(look, rng)
        assert not re.search(r"\ba [aeio]\w", text), text
        assert not re.search(r"\ban [^aeiou]", text), text
        assert not re.search(r"[a-z][A-Z]|[{}_]|None|  |, ,|,$", text), text


def test_every_caption_names_the_kind():
    rng = random.Random(2)
    for look in looks(500):
        assert KIND_NOUN[look.kind] in captions.caption(look, rng, completeness=0.0)


def test_captions_of_one_look_differ_and_some_are_partial():
    rng = random.Random(3)
    texts = [captions.caption(PERSON, rng, 0.5) for _ in range(40)]
    assert len(set(texts)) > 20
    assert any("hoodie" not in text for text in texts) and any("hoodie" in text for text in texts)


def test_a_named_caption_tells_only_what_varies():
    text = captions.named_caption(PERSON, "Wren")
    assert text == (
        "Wren, a voxel person, smiling, with starry eyes, wearing an orange hoodie, on an orange background"
    )


def test_eyes_behind_sunglasses_are_not_described():
    rng = random.Random(4)
    hidden = replace(PERSON, glasses="shades")
    for text in [*(captions.caption(hidden, rng, 1.0) for _ in range(50)), captions.named_caption(hidden, "Wren")]:
        assert "eyes" not in text
        assert "smiling" in text
    assert "eyes" in captions.caption(replace(PERSON, glasses="round"), rng, 1.0)


def test_every_part_of_every_kind_has_a_name():
    for look in looks(3000):
        for phrase in [*captions.identity_phrases(look), *captions.mood_phrase(look), captions.noun_phrase(look)]:
            assert phrase and phrase == phrase.strip() and "{" not in phrase


def test_parts_exist_in_the_styles(drawing):
    from importlib.resources import files

    def variants(kind: world.Kind, component: str) -> set[str]:
        style = json.loads((files("dicebear_styles") / f"{drawing.STYLE[kind]}.json").read_text("utf-8"))
        assert style["meta"]["license"]["name"] == "CC0 1.0"
        return set(style["components"][component]["variants"])

    assert set(world.HAIR_STYLES | world.HATS) <= variants("person", "top")
    assert set(world.OUTFITS) <= variants("person", "outfit")
    assert set(world.GLASSES) <= variants("person", "glasses")
    assert set(world.BEARDS) <= variants("person", "beard")
    assert set(world.PERSON_EYES) <= variants("person", "eyes")
    assert set(world.PERSON_MOUTHS) <= variants("person", "mouth")
    for kind in world.CREATURE_EYES:
        assert set(world.CREATURE_EYES[kind]) <= variants(kind, "eyes")
        assert set(world.CREATURE_MOUTHS[kind]) <= variants(kind, "mouth")
        assert set(world.CREATURE_TOPS[kind]) <= variants(kind, "plant" if kind == "sprout" else "top")


# questions


def test_yes_and_no_are_balanced_whatever_is_asked_for():
    rng = random.Random(5)
    told = [(question, answer) for look in looks(3000) for question, answer in asking.questions(look, rng)]
    for start in (
        "Is the character wearing",
        "Is the character holding",
        "Does the character have",
        "Is this",
        "Is the",
    ):
        answers = [answer for question, answer in told if question.startswith(start)]
        assert answers.count("Yes.") / len(answers) == pytest.approx(0.5, abs=0.05), start


def test_no_question_is_asked_twice_with_different_answers():
    rng = random.Random(6)
    for look in looks(1000):
        asked = asking.questions(look, rng)
        assert len({question for question, _ in asked}) == len(asked)


def test_answers_are_true():
    rng = random.Random(7)
    for look in looks(1000):
        told = asking.details(look)
        true = {has_detail("the character", detail) for detail in told.values()}
        for question, answer in asking.questions(look, rng):
            if answer in ("Yes.", "No.") and question.startswith("Is the character "):
                assert (answer == "Yes.") == (question in true), question
            if question == "What colour is the hair?":
                assert answer.lower() == f"{look.hair_color}."
            if question == "What is the character wearing?":
                assert f"wearing {answer[0].lower()}{answer[1:-1]}" == told["clothes"]
            if question == "Does the character wear glasses?":
                assert (answer == "Yes.") == bool(look.glasses)
            if question.startswith("Is this a "):
                assert (answer == "Yes.") == (KIND_NOUN[look.kind] in question)


# pictures


def test_a_look_is_always_the_same_picture(drawing):
    for look in looks(5, seed=8):
        assert drawing.draw(look).tobytes() == drawing.draw(look).tobytes()


def test_a_character_can_be_drawn_larger(drawing):
    picture = drawing.draw(PERSON, size=512)
    assert picture.size == (512, 512) and picture.mode == "RGB"


@pytest.mark.parametrize("outfit", list(world.OUTFITS))
def test_clothes_have_the_colour_the_caption_says(drawing, outfit):
    red, green = (np.asarray(drawing.draw(replace(PERSON, outfit=outfit, outfit_color=color))).astype(int)
                  for color in ("red", "green"))  # fmt: skip
    changed = np.abs(red - green).max(-1) > 40
    assert changed.sum() > 200
    assert red[changed].mean(0).argmax() == 0 and green[changed].mean(0).argmax() == 1


def test_sunglasses_and_nothing_else_hide_the_eyes(drawing):
    for glasses in world.GLASSES:
        dressed = replace(PERSON, glasses=glasses)
        pictures = [drawing.draw(replace(dressed, eyes=eyes)) for eyes in world.PERSON_EYES]
        stack = np.stack([np.asarray(picture).astype(int) for picture in pictures])
        # smoothing at the rim of sunglasses lets a few pixels differ by up to 26 of 255
        visible = np.ptp(stack, axis=0).max(-1) > 40
        assert (visible.sum() == 0) == captions.hides_eyes(dressed)


def test_every_place_shows_behind_the_character(drawing):
    pictures = {drawing.draw(replace(PERSON, place=place)).tobytes() for place in ("", *world.PLACES)}
    assert len(pictures) == 1 + len(world.PLACES)


def test_rendering_resumes_and_keeps_held_out_pictures_apart(drawing, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "HELD_OUT", 4)
    monkeypatch.setattr(dataset, "CHUNK", 4)
    assert list(dataset.render(tmp_path / "data", 6, 0, processes=1))[-1] == 10
    first = np.load(tmp_path / "data" / "images.npy")
    assert first.shape == (6, 128, 128, 3) and first.dtype == np.uint8
    # a longer run keeps whole chunks and does not mistake the short last one for a whole one
    assert list(dataset.render(tmp_path / "data", 8, 0, processes=1)) == [12]
    longer = np.load(tmp_path / "data" / "images.npy")
    assert len(longer) == 8 and (longer[:6] == first).all()
    # another seed draws other pictures into the same folder
    list(dataset.render(tmp_path / "data", 8, 1, processes=1))
    assert (np.load(tmp_path / "data" / "images.npy") != longer).any()
    held_out = np.load(tmp_path / "data" / "held_out.npy")
    known = {hashlib.sha256(picture.tobytes()).digest() for picture in longer}
    assert not known & {hashlib.sha256(picture.tobytes()).digest() for picture in held_out}
    assert len(dataset.read_records(tmp_path / "data" / "records.jsonl")) == 8


def test_records_are_deterministic_and_complete():
    look = dataset.look_of(17, 0)
    record = dataset.record(look, 17, 0)
    assert record == dataset.record(look, 17, 0)
    assert len(record["captions"]) == 4
    assert Look(**record["look"]) == look
    assert dataset.look_of(17, 1) != look


# what counts in training


def test_details_count_only_as_far_as_the_caption_says_them():
    from charforge.recipe.generation import GenerationRecipe, detail_weights

    recipe = GenerationRecipe(thing_detail=7.0, top_detail=3.0, face_detail=1.0)
    person = replace(PERSON, thing="key", side="beside")

    def weights(look: Look, caption: str) -> np.ndarray:
        return detail_weights(look, caption, recipe, 8).reshape(8, 8)

    said = weights(person, "a voxel person, next to a key")
    assert (said[5:, [0, 1, 2, 5, 6, 7]] == 7).all() and (said[:5] == 1).all() and (said[5:, 3:5] == 1).all()
    # where the thing is must not be told by the weights
    for left, right in ((0, 1), (2, 3)):
        one, other = (weights(replace(person, variation=v), "next to a key") for v in (left, right))
        np.testing.assert_array_equal(one, other)
    assert (weights(person, "a voxel person") == 1).all()
    held = weights(replace(person, side="holding"), "holding a key")
    assert (held[5:, 1:7] == 7).all() and held.sum() == 64 + 18 * 6
    critter = Look(kind="critter", body="blob", body_color="teal", top="horns", eyes="dots", mouth="smile")
    tops = weights(critter, "a critter")
    assert (tops[1:4, 1:7] == 3).all() and tops.sum() == 64 + 18 * 2


def test_a_recipes_settings_are_checked():
    from charforge.recipe.generation import GenerationRecipe
    from charforge.settings import checked, read_assignments

    data = read_assignments(["thing_detail=2.5", "seed=3", "seed=4"])
    recipe = checked(GenerationRecipe, data, "See there.")
    assert (recipe.thing_detail, recipe.seed) == (2.5, 4)
    with pytest.raises(InputError, match=r"there is no setting tings\. See there\."):
        checked(GenerationRecipe, {"tings": 1}, "See there.")
