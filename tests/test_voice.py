"""What is measured of a reply's words: against published implementations and planted faults."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charforge.evaluate.names import wrong_name
from charforge.evaluate.voice import (
    breaks_character,
    chrf,
    distinct,
    perplexity,
    sameness,
    speaks_for_user,
    voice_distance,
    wordless,
)

SACREBLEU = [
    ("Bo is not amused by this.", "Bo is not impressed by that at all.", 40.63747193566333),
    ("the cat", "the cat sat on the mat", 27.25331540542631),
    ("ab", "abcdef", 31.25),
    (
        "Good morning, hooman. Bo was guarding the bed.",
        "Good morning, hooman. Bo was simply ensuring the bed was warmed.",
        60.19739731297326,
    ),
    ("xyz", "abc", 0.0),
]
"""What sacrebleu 2.6 prints for ``CHRF().sentence_score``."""


@pytest.mark.parametrize(("reply", "reference", "score"), SACREBLEU)
def test_chrf_is_that_of_sacrebleu(reply: str, reference: str, score: float):
    assert 100 * chrf(reply, reference) == pytest.approx(score)


@given(st.text(max_size=40), st.text(max_size=40))
def test_measures_of_texts_stay_in_their_range(one: str, other: str):
    assert 0 <= chrf(one, other) <= 1 + 1e-12
    assert 0 <= voice_distance(one, [other]) <= 1 + 1e-12
    assert 0 <= distinct(one) <= 1
    assert isinstance(speaks_for_user(one, other), bool)
    assert isinstance(breaks_character(one), bool)
    assert isinstance(wrong_name(one, other, one, other), bool)


def test_voice_distance_has_its_ends_and_knows_the_voice():
    assert voice_distance("by my left spanner", ["by my left spanner"]) == pytest.approx(0, abs=1e-6)
    assert voice_distance("aaaa", ["zzzz"]) == 1.0
    assert voice_distance("ab", ["abcdef"]) == 1.0, "two letters are no run of three"
    own = ["By my left spanner, the kettle sings, apprentice.", "Measure twice, apprentice, and solder once."]
    assert voice_distance("By my spanner, solder it twice, apprentice.", own) < voice_distance(
        "Dear customer, thank you for your inquiry.", own
    )


def test_perplexity_is_a_mean_over_tokens():
    assert perplexity(np.array([[3 * np.log(8.0), 3], [np.log(8.0), 1]])) == pytest.approx(8)


def test_circles_and_the_same_answer_to_everything_are_found():
    assert distinct("no no no no no") == 0.25
    assert distinct("a kettle sings in the dark") == 1.0
    assert distinct("") == 1.0
    alike, varied = sameness(["I do not know."] * 3), sameness(["I do not know.", "By the sea.", "Twelve!"])
    assert alike.tolist() == pytest.approx([1.0] * 3)
    assert varied.max() < 0.5
    with pytest.raises(ValueError, match="no other"):
        sameness(["alone"])


@pytest.mark.parametrize(
    "reply",
    ["Hello.\nUser: Hi, Wren!", "*you nod slowly* Good.",
     'And you say, "Never."', "Fine.\nAnna: no", "{{user}}: yes", "ok <|im_end|>"],
)  # fmt: skip
def test_speaking_for_the_user_is_found(reply: str):
    assert speaks_for_user(reply, "Anna")


@pytest.mark.parametrize(
    "reply",
    ["Wren: I am here.", "*she nods* You may stay.", 
     "You say that every day.", "What would you say?", "*you are late*", ""],
)  # fmt: skip
def test_speaking_to_the_user_is_not_speaking_for_them(reply: str):
    assert not speaks_for_user(reply)


def test_breaking_character_is_found_unless_it_is_the_character():
    assert breaks_character("As an AI language model, I have no feelings.")
    assert breaks_character("How can I help you today?")
    assert not breaks_character("The kettle sings, apprentice.")
    assert not breaks_character("How can I help you today?", own="how can i help you today? i am the shop's robot.")


def test_saying_the_prompt_is_out_of_character_and_saying_nothing_is_another_fault():
    assert breaks_character("You are Mam, a cat who views the world from her throne.", name="Mam")
    assert not breaks_character("You are Mam's favourite human.", name="Mam")
    assert not breaks_character("You are kind, and Mam knows it.", name="Mam")
    # what is left of a reply that is a picture's plan alone
    for nothing in ("", " ", "...", "*"):
        assert wordless(nothing) and not breaks_character(nothing)
    assert not wordless("Mm.") and breaks_character("[description]")


@pytest.mark.parametrize(
    "reply",
    ["I am Tovan, and I mend clocks.", "Good day, Selda. The kettle sings.", "Merrik: Hand it over.",
     "It is late. Come back soon, Oskelan!", "My name is Brinno.", "Call me Tovan Grey.", "*nods* I'm Selda!",
     "Thank you, Wren. You may go."],
)  # fmt: skip
def test_somebody_elses_name_is_found(reply: str):
    assert wrong_name(reply, "Wren", OWN)
    assert wrong_name(reply, "Wren")


OWN = "I am Wren, apprentice. They call me Nib here; call me Nib. Goodnight, Bolt."


@pytest.mark.parametrize(
    "reply",
    ["I am Wren.", "Wren: here I am.", "I'm Wren, and this is Bolt.", "Bolt boiled water.", "Call me Nib.",
     "I am Cog Harbour's best tinker.", "Of course, apprentice. Sit down.", "Hello, Anna! Good to see you, Anna.",
     "By my left spanner, no.", "I am British.", "Oh, Sir.", "I met Tovan in Cog Harbour.", ""],
)  # fmt: skip
def test_its_own_name_and_the_users_are_not_wrong(reply: str):
    assert not wrong_name(reply, "Wren", OWN, heard="Hello, I am Anna.")
