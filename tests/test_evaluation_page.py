"""The page of an evaluation and its verdict, from planted figures."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_base import SCENES

from charforge.evaluate.identity import Scale
from charforge.evaluate.intervals import Series
from charforge.evaluate.measure import Drawn, Real, Seen
from charforge.evaluate.page import exchanges, markdown, picture_cards, write_page
from charforge.evaluate.prompt_tokens import tokens_saved
from charforge.evaluate.replies import Conversation, Turn
from charforge.evaluate.series import Replies, State
from charforge.evaluate.verdict import MEASURES, picture_scores, rows_of, verdict
from charforge.evaluate.voice import perplexity
from charforge.evaluate.whole import Measured

NAMES = tuple(map(str, range(12)))
HELD = [scene for scene in SCENES if scene.split == "held_out"]
COPIED = 3


def state(scene: float, likeness: float, loss: float, replies: list[str]) -> State:
    """Two pictures of each of three scenes; picture ``COPIED`` is a copy, and the last shows nothing."""
    pictures = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    copies = torch.tensor([float(number == COPIED) for number in range(6)])
    shown = torch.tensor([scene] * 5 + [0.1])
    like = torch.tensor([likeness + 0.01 * number for number in range(6)])
    values = {"scene": shown, "likeness": like, "identity": like, "copy_rate": copies}
    rows = np.stack([np.linspace(loss, loss + 0.1, 12), np.ones(12)], 1)
    series = {
        "scene": Series(NAMES, np.full(12, scene)),
        "likeness": Series(NAMES, np.full(12, likeness)),
        "copy_rate": Series(NAMES, np.full(12, 1 / 6)),
        "voice": Series(NAMES, rows, perplexity),
        "sameness": Series(NAMES, np.linspace(0.6, 0.7, 12)),
        "variety": Series(NAMES, np.linspace(0.2, 0.3, 12)),
    }
    turns = (Turn("system", "You are Pip."), Turn("user", "Hello?"))
    asked = [Conversation("Hello?", turns, "Beep."), Conversation("request: A picture in a forest?", ())]
    seen = Seen(values, torch.eye(6), torch.zeros(6, dtype=torch.long))
    return State(series, Drawn(HELD, pictures, 2), seen, Replies(asked, replies))


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    real = Real(("01",), (torch.zeros(3, 40, 20),), (), Scale(0.4, 0.8))
    after = state(0.9, 0.8, 3.0, ["Beep & 3 < 5", "As an AI, I cannot draw."])
    before = state(0.9, 0.2, 4.0, ["hm", "hm"])
    ceiling = {"sameness": Series(NAMES, np.linspace(0.2, 0.3, 12))}
    return Measured(tmp_path / "run", "Pip <i>", "pixels", 0.9, real, "beep", None, after, before, ceiling)


def test_the_verdict_says_what_is_good_and_what_is_wrong(measured: Measured):
    told = verdict(measured, rows_of(measured))
    assert told.startswith(
        "Pip <i> looks like its pictures (0.80 of 1), shows what it is asked for (90 %) and speaks more"
    )
    assert "perplexity 21.1, without training 57.4" in told
    assert told.endswith("; it says much the same to different questions.")
    poor = state(0.3, 0.2, 4.0, ["a", "b"])
    other = Measured(measured.run, "Pip", "pixels", 0.9, None, "", None, poor, measured.before, {})
    assert verdict(other, rows_of(other)) == (
        "Pip does not look like its pictures (0.20 of 1), shows little of what it is asked for (30 %) and speaks "
        "no more like itself than the bare base (perplexity 57.4, without training 57.4)."
    )


def test_tokens_saved_are_in_the_verdict_and_counts_have_no_places(measured: Measured):
    for rows, words in (((20.0, 15.0), "and saves 763 tokens of prompt;"), ((20.0, 25.0), "and speaks less well than")):
        saved = Series(("a", "b"), np.array([rows, rows]), partial(tokens_saved, card=831, prompts=(68,)))
        after = replace(measured.after, series=measured.after.series | {"prompt_tokens_saved": saved})
        told = replace(measured, after=after)
        assert words in verdict(told, rows_of(told))
    assert "| tokens of prompt that the adapter saves at equal voice |  | 0.000 (0.000 to 0.000)" in markdown(told, "")


def test_better_and_worse_are_said_where_it_is_more_than_chance(measured: Measured):
    rows = {row.measure.name: row for row in rows_of(measured)}
    assert rows["likeness"].changed == rows["voice"].changed == "better"
    assert rows["scene"].changed == rows["sameness"].changed == rows["variety"].changed == "same"
    alone = Measured(measured.run, "Pip", "pixels", 0.9, None, "", None, measured.after, None, {})
    assert {row.changed for row in rows_of(alone)} == {None}


def test_pictures_stand_by_their_score_and_copies_last(measured: Measured):
    scores = picture_scores(measured.after)
    assert scores[COPIED] == 0 and scores[4] == max(scores) == pytest.approx((0.9 + 0.84) / 2)
    cards = picture_cards(measured)
    assert [card.title for card in cards["best"]] == [f"score {scores[number]:.2f}" for number in (4, 2, 1)]
    assert cards["worst"][0].faults == ["a copy of a training picture"]
    assert [card.faults for card in cards["failures"]] == [
        ["a copy of a training picture"],
        ["shows 10 % of what was asked"],
    ]
    assert cards["worst"][0].nearest_name == "01"


def test_conversations_with_faults_come_first(measured: Measured):
    first, second = exchanges(measured)
    assert (first.asked, first.faults) == ("A picture in a forest?", ["out of character"])
    assert (second.asked, second.without, second.said, second.real) == ("Hello?", "hm", "Beep & 3 < 5", "Beep.")


def test_the_page_needs_nothing_else_and_shows_texts_as_they_are(measured: Measured, tmp_path: Path):
    write_page(tmp_path / "page.html", measured, "charforge eval 'a run'")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!data:)|@import|url\(""", page), "no file of its own is asked for"
    assert "Beep &amp; 3 &lt; 5" in page and "Pip &lt;i&gt;" in page
    assert page.index("What went wrong") < page.index("Before, after") < page.index("Pictures by score")
    assert "charforge eval &#39;a run&#39;" in page and "prefers-color-scheme: dark" in page
    # three pictures for each of three times three, and for two failures
    assert page.count("data:image/png;base64,") == 3 * (9 + 2)
    assert "2 of 6 pictures failed" in page


def test_the_card_has_verdict_and_table(measured: Measured):
    told = markdown(measured, "charforge eval run")
    assert "Pip <i> looks like" in told and "| shows what was asked (right answer of four) | 0.900" in told
    assert "`charforge eval run`" in told and "pixels" in told


def test_every_measure_has_words():
    assert len({measure.name for measure in MEASURES}) == len({measure.title for measure in MEASURES}) == len(MEASURES)
