"""Several adapters on one base by name: which of them act is said for each call, and disturbs nobody else."""

from __future__ import annotations

import threading
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
from charforge.chat.session import Session
from charforge.errors import InputError
from charforge.families.bagel.unified import UnifiedBagel
from charforge.families.replies import rows_of
from charforge.low_rank import acting, adapter_names, adapter_off
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


def test_two_characters_talk_on_one_base(both: UnifiedBagel) -> None:
    base, character = Base("tiny", both, "0" * 64, "float32"), read_character(WREN)
    settings = ChatSettings(temperature=0, max_tokens=6)

    def say(name: str | None) -> str:
        conversation = Conversation(Session(base, character, settings, name), pictures="never")
        return reply_of(conversation.say("Is it in a forest?", 1)).text

    assert len({say("wren"), say("bo"), say(None)}) == 3
    assert say("wren") == say("wren")
