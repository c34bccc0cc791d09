"""What is not kept, and the figures about what is."""

from __future__ import annotations

import pytest
from folders import make_folder
from hypothesis import given
from hypothesis import strategies as st

from charforge.character import Character, read_character
from charforge.expand import ImagePart, Pair, TextPart
from charforge.expand.filters import (
    duplicate_figures,
    grams,
    invented_names,
    keep_good,
    latin_share,
    overlap,
    rambles,
    reasons,
)


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Character:
    return read_character(make_folder(tmp_path_factory.mktemp("characters") / "pip"))


def pair(name: str, question: str, answer: str, **changes: object) -> Pair:
    parts = (TextPart(role="user", text=question), TextPart(role="assistant", text=answer, loss=True))
    values: dict[str, object] = {"task": "roleplay_text", "split": "train", "origin": "made up", "writer": "self"}
    return Pair(id=name, parts=parts, **(values | changes))  # type: ignore[arg-type]


GOOD = pair("good", "Is the kettle warm?", "Warm enough for two cups, beep.")


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("Is it late?", "?!", "empty"),
        ("Is it late?", "Yes.", "too short"),
        ("Is it late? " * 20, "Late enough for tea, beep.", "too long"),
        ("Is it late?", "word " * 121, "too long"),
        ("Is it late?", "It is late. It is late. Go home, beep.", "repeats itself"),
        ("Is it late?", "As an AI language model, I have no clock.", "an assistant's manners"),
        ("Is it late?", "How may I assist you today, dear guest?", "an assistant's manners"),
        ("Is it late?", "Late, beep.\nUser: And now?", "a speaker's name"),
        ("Is it late?", "Уже поздно, друг мой, пора домой.", "another language"),
        ("Is it late?", "Ask my cousin Bartholomew, he has a watch.", "invented name"),
    ],
)
def test_an_unfit_text_is_dropped_with_its_reason(pip: Character, question: str, answer: str, reason: str) -> None:
    kept, dropped = keep_good([GOOD, pair("bad", question, answer)], pip)
    assert kept == [GOOD]
    assert [(item.pair.id, item.reason) for item in dropped] == [("bad", reason)]
    assert reasons(dropped) == {reason: 1}


def test_what_the_user_wrote_is_not_judged_by_its_words(pip: Character) -> None:
    own = pair("own", "Late?", "As an AI, yes.", writer="template", origin=pip.dialogues[0].origin)
    assert keep_good([own], pip) == ([own], [])


def test_a_picture_that_nobody_sent_is_dropped(pip: Character) -> None:
    draw = ImagePart(image="99", use="draw", loss=True)
    invented = Pair(
        id="x", task="text_to_image", split="train", origin="o", writer="self",
        parts=(TextPart(role=None, text="Pip in a forest"), draw),
    )  # fmt: skip
    assert reasons(keep_good([invented], pip)[1]) == {"picture that nobody sent": 1}


def test_duplicates_are_dropped_and_the_users_own_dialogues_stay(pip: Character) -> None:
    again = GOOD.model_copy(update={"id": "again"})
    nearly = pair("nearly", "Hey Pip, is the kettle warm", "Warm enough for two cups, beep!")
    other = pair("other", "Is the kettle blue?", "As blue as a Monday morning, beep.")
    own = pair("own", "Is the kettle warm?", "It is, beep beep.", writer="template", origin=pip.dialogues[0].origin)
    kept, dropped = keep_good([GOOD, again, nearly, other, own], pip)
    assert [p.id for p in kept] == ["good", "other", "own"]
    assert reasons(dropped) == {"exact duplicate": 1, "near duplicate": 1}
    exact, near = duplicate_figures([GOOD, again, nearly, other], pip.name)
    assert (exact, near) == (1, 0.5)


def test_the_same_question_about_two_pictures_is_no_duplicate(pip: Character) -> None:
    def about(name: str) -> Pair:
        asked = TextPart(role="user", text="Who is this?"), TextPart(role="assistant", text="Pip.", loss=True)
        parts = (ImagePart(image=name, use="look"), *asked)
        return Pair(id=name, task="vqa", split="train", origin="o", parts=parts)

    pairs = [about("01"), about("02")]
    assert keep_good(pairs, pip) == (pairs, [])
    assert duplicate_figures(pairs, pip.name) == (0, 0.0)


def test_what_asks_a_held_out_question_is_a_leak(pip: Character) -> None:
    held = pair("held", "Is the kettle warm?", "It whistles in my dreams.", split="held_out")
    kept, dropped = keep_good([GOOD, held], pip)
    assert kept == [held] and reasons(dropped) == {"leaked": 1}


def test_names_inside_a_sentence_must_be_known() -> None:
    known = frozenset({"pip", "ottoline"})
    assert invented_names("Yesterday Pip saw Ottoline. Then Rupert came.", known) == ["Rupert"]
    assert invented_names('Perhaps. "Maybe so," I said.', known) == []


def test_a_name_that_is_called_first_must_be_known_too() -> None:
    known = frozenset({"pip"})
    assert invented_names("Ava, what's the point of your voice, sweetie?", known) == ["Ava"]
    assert invented_names('He said: "Rupert, come in!"', known) == ["Rupert"]
    assert invented_names("Pip, are you there? Well, yes. Honestly, I am.", known) == []
    # a plain first word says nothing: any noun may begin a sentence
    assert invented_names("Foggy, apprentice, about six sprockets thick. Rice, beep.", known) == []
    assert invented_names("Candles burn. Kettles sing, sometimes.", known) == []


def test_circles_and_scripts() -> None:
    assert rambles("I see the sea and I see the sea and I see the sea and I see the sea")
    assert not rambles("Fog tea tastes of mornings, and the gulls approve of it more than of me.")
    assert latin_share("привет") == 0 and latin_share("été") == 1 and latin_share("123") == 1


@given(st.text(max_size=60), st.text(max_size=60))
def test_overlap_is_a_symmetric_share(one: str, other: str) -> None:
    share = overlap(grams(one), grams(other))
    assert 0 <= share <= 1 and share == overlap(grams(other), grams(one))
    assert overlap(grams(one), grams(one)) == 1
