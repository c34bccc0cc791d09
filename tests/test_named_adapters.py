"""Several adapters on one base by name: which of them act is said for each call, and disturbs nobody else."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, tiny_data, tiny_model

from charforge.adapter.load import load_adapter
from charforge.adapter.lora import add_adapter, lora_config, save_adapter
from charforge.bases.base import Base
from charforge.bases.drawing import draw_prompts
from charforge.character import read_character
from charforge.chat.conversation import Conversation, reply_of
from charforge.chat.memory import Memory
from charforge.chat.messages import Message
from charforge.chat.session import Session
from charforge.chat.turn import Said, Wish, take_turn
from charforge.errors import InputError
from charforge.families.bagel.unified import UnifiedBagel
from charforge.families.replies import rows_of
from charforge.low_rank import acting, adapter_names, adapter_off
from charforge.serve.scheduler import Job, JobEvent, Limits, Scheduler
from charforge.settings import ChatSettings

WREN = Path(__file__).parent.parent / "examples" / "wren"


def saved(folder: Path, seed: int, first_layer: int = 0, zero: bool = False) -> Path:
    """An adapter that does something of its own."""
    model, config = tiny_model(), lora_config(CONFIG, rank=4, alpha=8, first_layer=first_layer)
    for parameter in add_adapter(model.network, config, seed).values():
        noise = 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
        parameter.data = noise * (not zero)
    save_adapter(model.network, config, folder / str(seed), "tiny")
    return folder / str(seed)


@pytest.fixture
def both(tmp_path: Path) -> UnifiedBagel:
    model = tiny_model()
    load_adapter(model, saved(tmp_path, 1), torch.float32, "wren")
    load_adapter(model, saved(tmp_path, 2, first_layer=2), torch.float32, "bo")
    return model


def alone(tmp_path: Path, seed: int, first_layer: int = 0) -> UnifiedBagel:
    model = tiny_model()
    load_adapter(model, saved(tmp_path / "alone", seed, first_layer), torch.float32)
    return model


def loss(model: UnifiedBagel) -> torch.Tensor:
    return model.text_loss(tiny_data().samples("dialogues"))[0]


def reply(model: UnifiedBagel) -> list[list[int]]:
    read = model.read([tiny_data().samples("dialogues")[0][:2]])
    return rows_of(model.reply(read, lambda logits: logits.argmax(-1), 8), 1)


@torch.no_grad()
def test_each_acts_as_if_it_were_alone(both: UnifiedBagel, tmp_path: Path) -> None:
    assert adapter_names(both.network) == {"wren", "bo"}
    with acting("wren"):
        wren, drawn, said = loss(both), draw_prompts(both, ["Pip"], [1])[0], reply(both)
    with acting("bo"):
        bo = loss(both)
    first, second = alone(tmp_path, 1), alone(tmp_path, 2, first_layer=2)
    assert torch.equal(wren, loss(first)) and torch.equal(bo, loss(second)) and not torch.equal(wren, bo)
    assert drawn.tobytes() == draw_prompts(first, ["Pip"], [1])[0].tobytes() and said == reply(first)


@torch.no_grad()
def test_without_any_it_is_the_bare_base(both: UnifiedBagel) -> None:
    bare = loss(tiny_model())
    with acting("wren"):
        with acting():
            assert torch.equal(loss(both), bare)
        with adapter_off(both.network):
            assert torch.equal(loss(both), bare)
        assert not torch.equal(loss(both), bare)


@torch.no_grad()
def test_two_act_together_in_training_code_and_in_the_fast_one(both: UnifiedBagel) -> None:
    with acting("wren"):
        wren = loss(both)
    with acting(("wren", 1.0), ("bo", 0.0)):
        torch.testing.assert_close(loss(both), wren)
    with acting("wren", ("bo", 0.5)):
        assert not torch.equal(loss(both), wren)
        read = both.read([tiny_data().samples("dialogues")[0][:2]])
        slow = both.reply_logits([()], read)
        fast: list[torch.Tensor] = []
        list(both.reply(read, lambda logits: fast.append(logits) or logits.argmax(-1), 1))
    torch.testing.assert_close(fast[0], slow, atol=1e-4, rtol=1e-4)


ACTING: dict[str, tuple[str | tuple[str, float], ...]] = {
    "Pip": ("wren",), "Yes .": ("bo",), "In A forest": (), "No . Where ?": ("wren", ("bo", 0.5)),
    "Where is it ?": ("wren",),
}  # fmt: skip
"""What each of five is asked, and whose words it says."""


def says(model: UnifiedBagel, asked: list[str], words: int = 6) -> list[list[torch.Tensor]]:
    """The logits of each word of those who were ``asked``, side by side; each says the likeliest."""
    speaking, found = model.speaking(), [list[torch.Tensor]() for _ in asked]
    for question in asked:
        with acting(*ACTING[question]):
            speaking.join(model.read([(model.text(question, "user"),)]), words)
    for _ in range(words):
        for mine, logits in zip(found, speaking.logits, strict=True):
            mine.append(logits)
        speaking.feed(speaking.logits.argmax(-1))
    return found


@torch.no_grad()
def test_characters_speak_side_by_side_as_each_speaks_alone(both: UnifiedBagel) -> None:
    together = says(both, list(ACTING))
    for question, mine in zip(ACTING, together, strict=True):
        (alone,) = says(both, [question])
        for one, other in zip(mine, alone, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
            assert one.argmax() == other.argmax()
    # the same question has another answer where another adapter acts
    with acting("bo"):
        otherwise = both.speaking()
        otherwise.join(both.read([(both.text("Pip", "user"),)]), 6)
    assert not torch.allclose(together[0][0], otherwise.logits[0], atol=1e-2)


@torch.no_grad()
def test_a_character_goes_and_the_others_speak_on_with_their_own_adapters(both: UnifiedBagel) -> None:
    asked = ["Pip", "Yes .", "In A forest"]
    speaking = both.speaking()
    for question in asked:
        with acting(*ACTING[question]):
            speaking.join(both.read([(both.text(question, "user"),)]), 6)
    speaking.feed(speaking.logits.argmax(-1))
    with acting("wren"):
        # what acts for whoever takes the row away is nothing to those who stay
        speaking.leave([0])
    for step in (1, 2):
        for logits, question in zip(speaking.logits, asked[1:], strict=True):
            torch.testing.assert_close(logits, says(both, [question])[0][step], rtol=1e-4, atol=1e-4)
        speaking.feed(speaking.logits.argmax(-1))


@torch.no_grad()
def test_threads_choose_for_themselves(both: UnifiedBagel) -> None:
    expected, found, together = {}, {}, threading.Barrier(2)
    for name in ("wren", "bo"):
        with acting(name):
            expected[name] = loss(both)

    def talk(name: str) -> None:
        with acting(name), torch.no_grad():
            together.wait()
            found[name] = [loss(both) for _ in range(5)]

    threads = [threading.Thread(target=talk, args=(name,)) for name in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(value, expected[name]) for name, values in found.items() for value in values)


def test_nobody_is_guessed_where_several_are_held(both: UnifiedBagel) -> None:
    with pytest.raises(ValueError, match="choose with"):
        loss(both)


def test_an_adapter_that_adds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="changes nothing"):
        load_adapter(tiny_model(), saved(tmp_path, 3, zero=True), torch.float32)


def test_characters_of_a_server_share_the_passes_of_their_base(both: UnifiedBagel) -> None:
    base, character = Base("tiny", both, "0" * 64, "float32"), read_character(WREN)
    settings = ChatSettings(temperature=0, max_tokens=6)
    sessions = [Session(base, character, settings, name) for name in ("wren", "bo", None)]

    def said(*who: Session) -> tuple[list[str], int]:
        scheduler, heard = Scheduler(Limits()), [list[JobEvent]() for _ in who]
        for session, events in zip(who, heard, strict=True):
            turn = partial(
                take_turn, Memory(session), [Message("user", "Is it in a forest?")], Wish(settings, 0, "never")
            )
            scheduler.submit(Job(session, turn, events.append))
        while scheduler.figures().active or scheduler.figures().waiting:
            scheduler.step()
        assert all(isinstance(events[-1], Said) for events in heard)
        return [events[-1].reply.text for events in heard], scheduler.figures().passes

    together, passes = said(*sessions)
    alone = [said(session) for session in sessions]
    assert together == [text for (text,), _ in alone] and len(set(together)) == 3
    assert passes < sum(of_one for _, of_one in alone)


def test_two_characters_talk_on_one_base(both: UnifiedBagel) -> None:
    base, character = Base("tiny", both, "0" * 64, "float32"), read_character(WREN)
    settings = ChatSettings(temperature=0, max_tokens=6)

    def say(name: str | None) -> str:
        conversation = Conversation(Session(base, character, settings, name), pictures="never")
        return reply_of(conversation.say("Is it in a forest?", 1)).text

    assert len({say("wren"), say("bo"), say(None)}) == 3
    assert say("wren") == say("wren")
