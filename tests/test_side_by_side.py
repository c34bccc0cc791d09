"""Replies side by side, of which one may begin or end at any token: each says what it says alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_model, tokenizer

from charforge.families.bagel.unified import UnifiedBagel

QUESTIONS = ("Is it in a forest ?", "Where is it ? In A forest", "Yes", "Is the character wearing red ? Yes")
ROOM = 12


def model() -> UnifiedBagel:
    plain = tiny_model()
    return UnifiedBagel(plain.network, plain.autoencoder, tokenizer())


MODEL = model()


def read(question: str):
    return MODEL.read([(MODEL.text(question, "user"),)])


def alone(question: str) -> list[torch.Tensor]:
    """The logits of each step of the likeliest reply, its end not heeded."""
    speaking = MODEL.speaking()
    speaking.join(read(question), ROOM)
    steps = []
    for _ in range(ROOM):
        steps.append(speaking.logits[0])
        speaking.feed(speaking.logits.argmax(-1))
    return steps


ALONE = {question: alone(question) for question in QUESTIONS}


def test_a_row_alone_says_to_the_bit_what_a_reply_says() -> None:
    for question, steps in ALONE.items():
        said = list(MODEL.reply(read(question), lambda logits: logits.argmax(-1), ROOM))
        assert all(torch.equal(one.logits[0], other) for one, other in zip(said, steps, strict=False))


EVENTS = st.lists(st.one_of(st.sampled_from(["say"] * 3), st.integers(0, 3)), min_size=1, max_size=24)


@settings(max_examples=40, deadline=None)
@given(EVENTS)
def test_rows_that_come_and_go_disturb_nobody(events: list[str | int]) -> None:
    speaking, rows = MODEL.speaking(), list[tuple[str, int]]()
    for event in events:
        if event == "say" and rows:
            for row, (question, step) in enumerate(rows):
                torch.testing.assert_close(speaking.logits[row], ALONE[question][step], rtol=1e-4, atol=1e-4)
            # everybody says the likeliest word, as alone
            speaking.feed(torch.stack([ALONE[question][step].argmax() for question, step in rows]))
            rows = [(question, step + 1) for question, step in rows]
            over = [row for row, (_, step) in enumerate(rows) if step == ROOM]
            speaking.leave(over)
            rows = [row for number, row in enumerate(rows) if number not in over]
        elif isinstance(event, int):
            asked = QUESTIONS[event]
            present = [number for number, (question, _) in enumerate(rows) if question == asked]
            if present:
                speaking.leave(present)
                rows = [row for row in rows if row[0] != asked]
            else:
                speaking.join(read(asked), ROOM)
                rows.append((asked, 0))
        assert speaking.rows == len(rows)


def test_without_rows_there_is_nothing_to_say() -> None:
    speaking = MODEL.speaking()
    with pytest.raises(ValueError, match="nobody speaks"):
        _ = speaking.logits
    speaking.join(read(QUESTIONS[0]), 1)
    speaking.feed(torch.tensor([5]))
    with pytest.raises(ValueError, match="used up"):
        speaking.feed(torch.tensor([5]))
    speaking.leave([0])
    with pytest.raises(ValueError, match="nobody speaks"):
        speaking.feed(torch.tensor([5]))
    with pytest.raises(ValueError, match="one row"):
        speaking.join(MODEL.read([(MODEL.text("Yes"),), (MODEL.text("Yes"),)]), 4)


def test_the_steps_of_a_drawing_end_in_the_picture_that_is_drawn() -> None:
    canvas = MODEL.canvas()
    noise = torch.randn(1, *canvas.shape, generator=torch.Generator().manual_seed(1))
    conditioning = read(QUESTIONS[0])
    steps = list(MODEL.draw_steps(conditioning, noise, canvas))
    assert [step.done for step in steps] == list(range(1, steps[-1].steps + 1))
    assert torch.equal(steps[-1].states, MODEL.draw(conditioning, noise, canvas))
    # at the last step what is expected is what comes
    torch.testing.assert_close(steps[-1].expected, steps[-1].states)
