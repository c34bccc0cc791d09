"""Looking at pictures without captions: each phrase confirmed or dropped; who does not see is asked nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from charforge.character import Character, read_character
from charforge.expand.asking import Request
from charforge.expand.looking import (
    LOOKED_AT,
    Sight,
    asked_of,
    confirm_in_words,
    look,
    read_looked,
    told_phrases,
    with_looks,
    write_looked,
)
from charforge.expand.sight import probe_pictures
from charforge.room import LONG_CONTEXT, SHORT_CONTEXT

SEES = {"probe:triangle": "Purple triangle.", "probe:square": "green square"}


def answering(tell: Callable[[Request], str]) -> Callable[[Sequence[Request]], list[str]]:
    return lambda requests: [tell(request) for request in requests]


@pytest.fixture(scope="module")
def marco() -> Character:
    return read_character(Path(__file__).parent / "invented" / "Marco")


def seeing(request: Request) -> str:
    if request.image in SEES:
        return SEES[request.image]
    return {"0": "smiling, wearing a red coat, in a garden", "1": "Sorry, but I can't assist with that."}.get(
        request.image or "", "standing, on a beach"
    )


def test_phrases_that_are_not_confirmed_are_dropped(marco: Character) -> None:
    looked = look(marco, answering(seeing), Sight(lambda picture, question: "coat" not in question))
    # seven pictures said to stand on a beach are not told apart by it
    assert dict(looked.captions) == {"0": "smiling, in a garden"}
    assert looked.dropped == 1
    seen = with_looks(marco, looked)
    assert seen.picture("0").caption == "smiling, in a garden" and seen.picture("1").caption is None
    assert (seen.understanding.pictures.value, seen.understanding.pictures.how) == (
        "1 of 8 pictures have a caption",
        "guessed",
    )


def test_a_model_that_does_not_see_is_asked_nothing(marco: Character) -> None:
    asked: list[Request] = []

    def blind(request: Request) -> str:
        asked.append(request)
        return "a green square"

    looked = look(marco, answering(blind), Sight(lambda picture, question: True))
    assert not looked.captions and looked.why_not and {request.kind for request in asked} == {"probe"}


def test_who_says_yes_to_everything_confirms_nothing() -> None:
    assert not confirm_in_words(answering(lambda request: "Yes."))("0", "Is it in a garden?")
    assert confirm_in_words(answering(lambda request: "Yes." if request.image == "0" else "No."))("0", "Is it?")


def test_the_class_comes_from_the_base_only_where_it_is_clear(marco: Character) -> None:
    nobody = replace(marco, class_noun="", understanding=replace(marco.understanding, class_noun=type(
        marco.understanding.class_noun)()))  # fmt: skip
    shown: list[Sequence[str]] = []

    def score(sharp: float) -> Callable[[Sequence[str], str, Sequence[str]], list[float]]:
        def scores(names: Sequence[str], question: str, answers: Sequence[str]) -> list[float]:
            shown.append(names)
            return [sharp if answer == "a courier." else 0.0 for answer in answers]

        return scores

    clear = look(nobody, answering(seeing), Sight(lambda picture, question: False, score(9.0)))
    assert clear.class_noun is not None and clear.class_noun.value == "courier"
    assert (clear.class_noun.how, clear.class_noun.evidence) == ("guessed", "the base's answer")
    assert len(shown[0]) == LOOKED_AT
    assert look(nobody, answering(seeing), Sight(lambda p, q: False, score(0.5))).class_noun is None


def test_what_was_seen_is_kept(marco: Character, tmp_path: Path) -> None:
    looked = look(marco, answering(seeing), Sight(lambda picture, question: True))
    write_looked(tmp_path / "looked.json", looked)
    assert read_looked(tmp_path / "looked.json") == looked


def test_refusals_tell_nothing() -> None:
    assert told_phrases("Sorry, but I can't assist with that.") == []
    assert told_phrases("I see a man in a garden.") == []


def test_a_base_confirms_by_the_odds_of_yes_here_and_on_a_known_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image
    from tiny import tiny_data
    from tiny_base import tiny_base

    from charforge.expand import base_sight as sight
    from charforge.likelihood import Question, answer_likelihoods
    from charforge.sample import Picture

    base = tiny_base()
    images = {"0": Image.new("RGB", (32, 32), "red"), "1": Image.new("RGB", (32, 32), "blue"), **probe_pictures()}
    target = tiny_data().samples("pictures")[0][-1]
    pictures = {name: Picture(target, base.model.look(image)) for name, image in images.items()}
    question = "Is it in a forest ?"

    def odds(name: str) -> float:
        asked = [Question(0, question, ("Yes .", "No ."), first_word=True)]
        ((yes, no),) = answer_likelihoods(base.model, [(pictures[name].look,)], asked)
        return (yes - no).item()

    here, elsewhere = odds("0"), odds(sight.ELSEWHERE)
    for margin in (here - 0.01, here + 0.01):
        monkeypatch.setattr(sight, "LEAST_MARGIN", margin)
        assert sight.base_sight(base, pictures).confirm("0", question) is (here >= margin and elsewhere < 0)
    score = sight.base_sight(base, pictures).score
    assert score is not None
    both, first, second = (
        score(shown, "Where is it ?", ("In a forest .", "In a desert .")) for shown in ("01", "0", "1")
    )
    assert both == pytest.approx([(a + b) / 2 for a, b in zip(first, second, strict=True)], abs=1e-4)
    # an answer that is as likely where nothing was asked gains nothing
    assert score("0", sight.NOT_ASKED, ("In a forest .",)) == pytest.approx([0.0], abs=1e-5)


def test_a_base_with_room_reads_the_profile_before_it_says_what_the_character_is(marco: Character) -> None:
    question = f"What is {marco.name}?"
    long = replace(marco, persona="He keeps a lighthouse. " * 40, about="", room=LONG_CONTEXT)
    assert asked_of(long).startswith("He keeps a lighthouse.") and asked_of(long).endswith(question)
    # a part of it would speak of whoever stands there
    assert asked_of(replace(long, room=SHORT_CONTEXT)) == question
    assert asked_of(replace(long, persona="", voice="")) == question
