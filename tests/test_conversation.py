"""A conversation: the same words whatever was kept, pieces that make the reply, a history that fits the base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import CONFIG, tiny_model, tokenizer

from charforge.bases.base import Base
from charforge.character import read_character
from charforge.chat.conversation import Conversation, Piece, reply_of
from charforge.chat.history import ROOM_AFTER_CUT, first_kept, kept_from
from charforge.chat.memory import Memory, Reading
from charforge.chat.messages import Message
from charforge.chat.session import Session
from charforge.chat.turn import Drawing, Said
from charforge.chat.utterance import PLAN, Utterance
from charforge.errors import InputError
from charforge.families.bagel.unified import UnifiedBagel
from charforge.families.results import Conditioning
from charforge.grammar import split_plan
from charforge.settings import ChatSettings

WREN = read_character(Path(__file__).parent.parent / "examples" / "wren")
WREN = replace(WREN, persona="", voice="", class_noun="character")


class Counting(UnifiedBagel):
    """Counts the parts that are read."""

    read_parts = 0

    def read(self, rows, after=None):
        Counting.read_parts += sum(len(row) for row in rows)
        return super().read(rows, after)


def conversation(pictures="never", context: int = 4096, **settings: object) -> Conversation:
    Counting.read_parts = 0
    plain = tiny_model()
    model = Counting(plain.network, plain.autoencoder, tokenizer())
    model.network.config = CONFIG.model_copy(update={"context_tokens": context})
    chat = ChatSettings(**({"max_tokens": 8, "temperature": 0.9} | settings))  # type: ignore[arg-type]
    return Conversation(Session(Base("tiny", model, "0" * 64, "float32"), WREN, chat), pictures)


def read_through(memory: Memory, messages: Sequence[Message]) -> Conditioning:
    """What is made of ``messages`` when all of them have been read."""
    reading = memory.reading(messages, 8)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value


QUESTIONS = ("Is it in a forest ?", "Where is it ?", "In A forest", "Is the character wearing red ?")


def test_what_was_kept_changes_no_word_and_a_turn_reads_only_what_is_new() -> None:
    kept, counts = conversation(), []
    for number, question in enumerate(QUESTIONS):
        before = Counting.read_parts
        reply = reply_of(kept.say(question, seed=number))
        counts.append(Counting.read_parts - before)
        fresh = conversation()
        fresh.messages = kept.messages[:-2]
        Counting.read_parts = sum(counts)
        assert reply_of(fresh.say(question, seed=number)) == reply
        Counting.read_parts = sum(counts)
    # the system prompt and a question; then a reply and a question each
    assert counts == [2, 2, 2, 2]


def test_a_retry_begins_where_the_answer_began() -> None:
    talk = conversation()
    first = reply_of(talk.say(QUESTIONS[0], seed=1))
    before = Counting.read_parts
    assert reply_of(talk.retry(seed=1)) == first and Counting.read_parts == before
    assert len(talk.messages) == 2


def test_an_edited_message_is_what_the_next_answer_rests_on() -> None:
    talk, other = conversation(temperature=0), conversation(temperature=0)
    list(talk.say(QUESTIONS[0], seed=1))
    talk.edit("Yes .")
    other.messages = [Message("user", QUESTIONS[0]), Message("assistant", "Yes .")]
    assert reply_of(talk.say(QUESTIONS[1], seed=1)) == reply_of(other.say(QUESTIONS[1], seed=1))


def test_pieces_together_are_the_reply() -> None:
    for seed in range(5):
        events = list(conversation(max_tokens=20).say(QUESTIONS[0], seed=seed))
        assert isinstance(events[-1], Said)
        assert "".join(event.text for event in events if isinstance(event, Piece)) == events[-1].reply.text


def test_a_picture_comes_when_it_is_always_wanted() -> None:
    events = list(conversation("always").say(QUESTIONS[0], seed=1))
    assert any(isinstance(event, Drawing) for event in events)
    assert isinstance(events[-1], Said) and events[-1].reply.image.size == (16, 16)


def test_a_picture_that_is_sent_is_looked_at() -> None:
    red, blue = (Image.new("RGB", (32, 32), color) for color in ("red", "blue"))

    def logits(image: Image.Image) -> torch.Tensor:
        talk = conversation()
        talk.messages = [Message("user", "Is it ?", (image,))]
        model = talk.session.base.model
        return model.reply_logits([()], read_through(talk._memory, talk.messages))

    assert not torch.equal(logits(red), logits(blue)) and torch.equal(logits(red), logits(red))


def test_it_can_be_stopped_and_keeps_what_was_said() -> None:
    talk = conversation(max_tokens=50, temperature=0, repetition_penalty=1.0)
    whole = reply_of(conversation(max_tokens=50, temperature=0, repetition_penalty=1.0).say(QUESTIONS[0], 1)).text
    events = talk.say(QUESTIONS[0], seed=1)
    first = next(events)
    talk.stopped.set()
    rest = list(events)
    said = talk.messages[-1].text
    assert isinstance(first, Piece) and isinstance(rest[-1], Said)
    assert whole.startswith(said) and len(said) < len(whole)


def test_who_stops_before_the_first_piece_has_stopped_this_answer() -> None:
    talk = conversation(max_tokens=50, temperature=0, repetition_penalty=1.0)
    events = talk.say(QUESTIONS[0], seed=1)
    talk.stopped.set()
    assert isinstance(list(events)[-1], Said) and len(talk.messages[-1].text.split()) <= 1


def test_a_picture_is_known_by_what_it_shows() -> None:
    talk = conversation()
    one, same, other = (Image.new("RGB", (32, 32), color) for color in ("red", "red", "blue"))
    parts = talk._memory.parts([Message("user", "", (one, same, other))], 8)
    assert parts[1] is parts[2] and parts[1] is not parts[3]


def test_reading_stops_after_each_message_and_what_is_too_long_is_refused() -> None:
    talk = conversation(context=200)
    history = [Message(("user", "assistant")[n % 2], QUESTIONS[n % 4]) for n in range(5)]  # type: ignore[arg-type]
    steps = list(talk._memory.reading(history, 8))
    # the prompt and four of the five messages: the fifth ends the reading
    assert steps == [Reading(n, 6) for n in range(1, 6)]
    with pytest.raises(InputError, match="more than the 200 that this base reads"):
        talk._memory.parts(history, 8)
        list(talk._memory.reading([Message("user", "Is it ? " * 100)], 8))


def test_a_long_message_is_read_in_pieces_and_is_the_same_to_the_model() -> None:
    talk = conversation(context=2000)
    model, long = talk.session.base.model, Message("user", "Is it in a forest ? " * 200)
    reading = talk._memory.reading([long], 8)
    steps: list[Reading] = []
    while True:
        try:
            steps.append(next(reading))
        except StopIteration as end:
            read = end.value
            break
    parts = talk._memory.parts([long], 8)
    assert len(steps) > len(parts) - 1 + parts[-1].length // 512 - 1 and {step.done for step in steps} == {1}
    whole = model.read([tuple(parts)])
    torch.testing.assert_close(model.reply_logits([()], read), model.reply_logits([()], whole))
    (one,) = model.pieces(parts[0], 512)
    assert one == parts[0] and sum(piece.length for piece in model.pieces(parts[-1], 100)) == parts[-1].length
    with pytest.raises(ValueError, match="stays whole"):
        model.pieces(model.text("Yes", "assistant", True), 2)


def test_a_plan_is_looked_for_in_time_that_grows_with_the_text() -> None:
    long = f"x{' ' * 1_000_000}x [picture: a cat]"
    assert split_plan(long) == (long.partition("[")[0].strip(), "a cat")


def test_nothing_said_and_nothing_to_retry_are_errors() -> None:
    with pytest.raises(InputError, match="nothing in this message"):
        conversation().say("  ", seed=1)
    with pytest.raises(InputError, match="no answer yet"):
        conversation().retry(seed=1)
    with pytest.raises(InputError, match="nothing has been said"):
        conversation().edit("no")


def test_a_history_that_is_too_long_loses_its_oldest_exchanges_and_never_the_persona() -> None:
    talk = conversation(context=120)
    for number in range(30):
        list(talk.say(QUESTIONS[number % 4], seed=number))
    parts = talk._memory.parts(talk.messages, 8)
    assert sum(part.length for part in parts) <= 120 - 8 and len(talk.messages) == 60
    prompt = talk.session.base.model.text("You are Wren, a character.", "system")
    assert parts[0] == prompt and talk.messages[-len(parts) + 1].who == "user"


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 200))
def test_what_is_kept_fits_or_is_the_last_exchange(lengths: list[int], room: int) -> None:
    starts = [index % 2 == 0 for index in range(len(lengths))]
    first = first_kept(lengths, starts, room)
    last = max(index for index, start in enumerate(starts) if start)
    assert starts[first] and (sum(lengths[first:]) <= room or first == last)
    if first not in (0, last):
        assert sum(lengths[first:]) <= room * ROOM_AFTER_CUT
    # said again with one word more it stays where it is, unless it has to move on
    again = first_kept([*lengths, 1], [*starts, not starts[-1]], room, first)
    assert again >= first
    # what is cut off never comes back while a conversation grows
    grown = [kept_from(lengths[:end], starts[:end], room) for end in range(1, len(lengths) + 1)]
    assert grown == sorted(grown)


WORDS = st.sampled_from(
    ["Hi ", "[pict", "[picture: a cat]", "[Picture: on a beach", " sea", "\n", "[", "]", "é", "STO", "STOP"]
)


class Letters:
    """A model that says one letter a token: what an utterance asks of one."""

    def __init__(self, whole: str) -> None:
        self.whole = whole

    def ends(self, token: int) -> bool:
        return token == len(self.whole)

    def words(self, tokens: list[int]) -> str:
        return self.whole[: len(tokens)]


def spoken(whole: str, stop: tuple[str, ...], most: int = 1000) -> tuple[Utterance, str]:
    """What is shown of ``whole`` while it is said letter by letter."""
    settings = ChatSettings(temperature=0, repetition_penalty=1.0, max_tokens=most)
    said = Utterance(Letters(whole), settings, 0, stop)  # type: ignore[arg-type]
    pieces = []
    while said.finish is None:
        logits = torch.zeros(1, len(whole) + 1)
        logits[0, len(said.tokens)] = 1
        pieces.append(said.take(logits)[1])
        assert PLAN not in "".join(pieces).lower() and not any(word in "".join(pieces) for word in stop)
    return said, "".join(pieces)


@given(st.lists(WORDS, max_size=8), st.sampled_from([(), ("STOP",), ("STOP", "sea")]))
def test_a_plan_and_words_that_end_it_are_never_shown_and_everything_else_is(
    words: list[str], stop: tuple[str, ...]
) -> None:
    whole = "".join(words)
    said, shown = spoken(whole, stop)
    ends = [place for word in stop if (place := whole.find(word)) >= 0]
    text = whole[: min(ends)] if ends else whole
    assert said.text == text and said.finish == "stop"
    before = text[: text.lower().find(PLAN)] if PLAN in text.lower() else text
    assert shown == before.rstrip()


def test_a_reply_that_became_too_long_says_so() -> None:
    said, shown = spoken("one two three", (), most=7)
    assert (said.finish, said.text, shown) == ("length", "one two", "one two")
    assert spoken("one two", (), most=7)[0].finish == "length"
    assert spoken("one two", (), most=8)[0].finish == "stop"
