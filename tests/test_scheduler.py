"""Orders on one model: nobody disturbs anybody, and what ends leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from served import tiny_seats
from test_conversation import read_through

from charforge.bases.drawing import DrawingProgress
from charforge.chat.imagine import draw_best
from charforge.chat.memory import Memory
from charforge.chat.messages import Message
from charforge.chat.session import Session
from charforge.chat.turn import Said, Step, Wish, take_turn
from charforge.errors import InputError
from charforge.serve.engine import Busy, Piece, Progress, TooLate, Unavailable
from charforge.serve.memories import Memories
from charforge.serve.scheduler import PREVIEWS, Job, JobEvent, Limits, Scheduler
from charforge.settings import ChatSettings

QUESTION = [Message("user", "Is it in a forest ?")]


@pytest.fixture
def session() -> Session:
    return tiny_seats()[0].session


def reply_job(session: Session, seed: int = 0, pictures: str = "never", tokens: int = 12) -> tuple[Job, list[JobEvent]]:
    wish = Wish(ChatSettings(max_tokens=tokens, temperature=100), seed, pictures)  # type: ignore[arg-type]
    heard: list[JobEvent] = []
    return Job(session, lambda: take_turn(Memory(session), QUESTION, wish), heard.append, previews=True), heard


def picture_job(session: Session, seed: int = 0) -> tuple[Job, list[JobEvent]]:
    heard: list[JobEvent] = []
    return Job(session, lambda: draw_best(session, "Wren", "Wren", [seed]), heard.append, True, draws=True), heard


def finish(scheduler: Scheduler, most: int = 500) -> int:
    """Steps until nothing is left to do."""
    for step in range(most):
        if not scheduler.figures().active and not scheduler.figures().waiting:
            return step
        scheduler.step()
    raise AssertionError("it does not end")


def test_several_replies_take_as_many_steps_as_the_longest(session: Session) -> None:
    scheduler = Scheduler(Limits(rows=4))
    jobs = [reply_job(session, seed, tokens=20) for seed in range(4)]
    scheduler.submit(*(job for job, _ in jobs))
    assert finish(scheduler) <= 20 + 4 + 1
    assert all(isinstance(heard[-1], Said) and any(isinstance(one, Piece) for one in heard) for _, heard in jobs)
    figures = scheduler.figures()
    assert figures.tokens > figures.passes


def test_what_is_too_much_waits_and_what_is_more_is_refused(session: Session) -> None:
    scheduler = Scheduler(Limits(rows=2, waiting=3))
    scheduler.submit(*(reply_job(session, seed)[0] for seed in range(5)))
    with pytest.raises(Busy, match="5 orders are waiting") as refused:
        scheduler.submit(reply_job(session)[0])
    assert refused.value.seconds > 0
    for _ in range(3):
        scheduler.step()
        assert scheduler.figures().active <= 2
    assert scheduler.figures().waiting == 3
    finish(scheduler)


def test_without_a_queue_what_has_room_is_taken(session: Session) -> None:
    scheduler = Scheduler(Limits(rows=2, waiting=0))
    scheduler.submit(reply_job(session)[0], reply_job(session, 1)[0])
    scheduler.step()
    scheduler.step()
    with pytest.raises(Busy):
        scheduler.submit(reply_job(session, 2)[0])
    with pytest.raises(InputError, match="n: at most 2 replies"):
        scheduler.submit(*(reply_job(session, seed)[0] for seed in range(3)))
    finish(scheduler)


def test_pictures_do_not_keep_words_waiting(session: Session) -> None:
    scheduler = Scheduler(Limits(rows=1))
    picture, drawn = picture_job(session)
    scheduler.submit(picture)
    scheduler.step()
    job, heard = reply_job(session)
    scheduler.submit(job)
    scheduler.step()
    assert scheduler.figures().tokens == 1 and not isinstance(drawn[-1], DrawingProgress)
    finish(scheduler)
    assert isinstance(drawn[-1], DrawingProgress) and drawn[-1].pictures and isinstance(heard[-1], Said)


def test_a_picture_is_shown_after_each_third(session: Session) -> None:
    scheduler = Scheduler(Limits())
    job, heard = reply_job(session, pictures="always")
    scheduler.submit(job)
    finish(scheduler)
    steps = [event for event in heard if isinstance(event, Progress)]
    assert [step.done for step in steps] == list(range(1, steps[0].steps + 1))
    shown = [step.done for step in steps if step.preview]
    every = max(1, steps[0].steps // PREVIEWS)
    assert shown == list(range(every, steps[0].steps, every))
    assert isinstance(heard[-1], Said) and heard[-1].reply.image


def test_who_goes_is_gone_within_a_step(session: Session) -> None:
    for begin in (reply_job, picture_job):
        scheduler = Scheduler(Limits())
        job, heard = begin(session)
        stays, other = reply_job(session, 1)
        scheduler.submit(job, stays)
        for _ in range(3):
            scheduler.step()
        job.cancelled.set()
        before = len(heard)
        scheduler.step()
        assert scheduler.figures().active == 1 and len(heard) == before
        finish(scheduler)
        assert isinstance(other[-1], Said)


def test_who_goes_while_a_long_history_is_read_ends_the_reading_and_keeps_nobody_waiting(session: Session) -> None:
    long = [Message(("user", "assistant")[n % 2], f"Yes {n}") for n in range(41)]  # type: ignore[arg-type]
    heard: list[JobEvent] = []
    memory = Memory(session)
    reader = Job(session, lambda: take_turn(memory, long, Wish(ChatSettings(max_tokens=8), 0)), heard.append)
    scheduler = Scheduler(Limits())
    quick, said = reply_job(session, tokens=4)
    scheduler.submit(reader, quick)
    for _ in range(12):
        scheduler.step()
    # the short one is said while the long one is being read
    assert isinstance(said[-1], Said) and not heard and scheduler.figures().active == 1
    reader.cancelled.set()
    scheduler.step()
    assert scheduler.figures().active == 0 and len(memory._states) < len(long)


def test_a_reply_whose_words_cannot_be_chosen_ends_alone(session: Session) -> None:
    scheduler = Scheduler(Limits())
    (job, heard), (other, said) = reply_job(session), reply_job(session, 1)
    scheduler.submit(job, other)
    for _ in range(5):
        scheduler.step()
    row = next(row for row in scheduler._tables[0].rows if row.job is job)
    row.said._choose = lambda logits: 1 / 0  # type: ignore[assignment, return-value]
    finish(scheduler)
    assert isinstance(heard[-1], ZeroDivisionError) and isinstance(said[-1], Said)


def test_one_that_fails_ends_no_other(session: Session) -> None:
    def broken() -> Iterator[Step]:
        raise InputError("this cannot be done")
        yield

    heard: list[JobEvent] = []
    scheduler = Scheduler(Limits())
    job, other = reply_job(session)
    scheduler.submit(Job(session, broken, heard.append), job)
    finish(scheduler)
    assert isinstance(heard[-1], InputError) and isinstance(other[-1], Said)


def test_a_model_that_fails_ends_the_replies_of_that_pass_alone(session: Session, monkeypatch) -> None:
    scheduler = Scheduler(Limits())
    (one, first), (two, second) = reply_job(session), reply_job(session, 1)
    scheduler.submit(one, two)
    for _ in range(3):
        scheduler.step()
    speaking = scheduler._tables[0].speaking
    monkeypatch.setattr(speaking, "feed", lambda tokens: 1 / 0)
    finish(scheduler)
    assert isinstance(first[-1], ZeroDivisionError) and isinstance(second[-1], ZeroDivisionError)
    job, heard = reply_job(session)
    scheduler.submit(job)
    finish(scheduler)
    assert isinstance(heard[-1], Said)


def test_what_takes_too_long_and_what_is_left_at_the_end(session: Session) -> None:
    now = [0.0]
    scheduler = Scheduler(Limits(rows=1, seconds=10), lambda: now[0])
    (one, first), (two, second) = reply_job(session), reply_job(session)
    scheduler.submit(one, two)
    scheduler.step()
    now[0] = 11.0
    scheduler.step()
    assert isinstance(first[-1], TooLate) and isinstance(second[-1], TooLate)
    job, heard = reply_job(session)
    scheduler.submit(job)
    scheduler.close()
    scheduler.run()
    assert isinstance(heard[-1], Unavailable)
    with pytest.raises(Unavailable):
        scheduler.submit(job)


def test_memories_know_a_conversation_again_and_forget_the_oldest(session: Session) -> None:
    memories = Memories(10_000)
    first = memories.of(session, QUESTION)
    read_through(first, QUESTION)
    longer = [*QUESTION, Message("assistant", "Yes"), Message("user", "Where is it ?")]
    assert memories.of(session, longer) is first
    other = memories.of(session, [Message("user", "Who ?"), *longer])
    # another conversation begins as the first did: with the prompt, which has been read
    assert other is first or other._states
    small = Memories(1)
    one = small.of(session, QUESTION)
    read_through(one, QUESTION)
    two = small.of(session, [Message("user", "Yes"), *longer[1:]])
    read_through(two, longer)
    small.of(session, [Message("user", "No"), *longer[1:], *longer[1:]])
    assert len(small._kept) == 1
