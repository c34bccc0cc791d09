"""A second, quite different family goes through the very same loops: training, the second stage, bundle, chat."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_family import FAKE, FakeModel, fake_model, make_fake_base
from tiny_base import SCENES, grpo_settings, tiny_judges

from charforge import families
from charforge.adapter.load import load_adapter
from charforge.adapter.lora import add_adapter, lora_config, save_adapter
from charforge.bases.base import load_base
from charforge.bases.drawing import draw_prompts, read_prompts
from charforge.bases.verify import check_folder
from charforge.bundle import read_bundle
from charforge.character import read_character
from charforge.chat.conversation import Conversation, reply_of
from charforge.chat.imagine import imagine
from charforge.chat.session import open_character
from charforge.errors import InputError
from charforge.expand import expand
from charforge.flow import interpolate, target_velocity
from charforge.low_rank import adapter_off
from charforge.run.job import train_character
from charforge.sample import Noise, Sample, Target, stack_targets
from charforge.serve.voices import open_seats
from charforge.train.grpo import GrpoHooks, train_grpo
from charforge.train.policy_gradient import policy_gradient
from charforge.train.rollout import roll_out
from charforge.train.samples import Dataset, alone
from charforge.train.sft import Hooks, held_out, train_sft

WREN = Path(__file__).parent.parent / "examples" / "wren"
TALK = (
    "hello wren who are you ? i am a spanner . show me the sea yes no in a forest desert on beach wearing red blue coat"
)
QUIET = Hooks(lambda log: None, lambda result, best: None, lambda step: None)
NOT_LISTENING = GrpoHooks(lambda log: None, lambda result, best: None, lambda number: None)


@pytest.fixture
def model(tmp_path: Path) -> FakeModel:
    return fake_model(make_fake_base(tmp_path / "base", TALK.split()))


def data_of(model: FakeModel) -> Dataset:
    draw = torch.Generator().manual_seed(0)

    def said(words: str) -> Sample:
        return (
            model.text("You are Wren", "system"),
            model.text("who are you ?", "user"),
            model.text(words, "assistant", True),
        )

    def picture(words: str) -> Sample:
        target = Target(torch.rand(16, 48, generator=draw) * 2 - 1, torch.arange(16))
        return (model.text(words), target)

    pictures = [picture("red coat"), picture("blue coat"), picture("in a forest")]
    kinds = {
        "dialogues": [said("i am a spanner ."), said("i am the sea .")],
        "pictures": pictures,
        "replay_texts": [said("yes")[1:]],
        "replay_pictures": [picture("a desert")],
        "held_out_texts": [said("i am a spanner .")],
        "held_out_pictures": pictures[:1],
    }
    return Dataset({name: alone(samples) for name, samples in kinds.items()})


def adapted(model: FakeModel) -> dict[str, torch.nn.Parameter]:
    return add_adapter(model.network, lora_config(model.shapes, rank=4, alpha=8), seed=0)


def test_its_velocity_is_that_of_the_protocol(model: FakeModel) -> None:
    """A network that knows the picture gives noise minus picture, in units of the noise."""
    x0, noise = (torch.randn(2, 16, 48, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    scale, t = model.shapes.noise_scale, torch.tensor([0.3, 0.9])
    assert scale == 2.0
    model.predict = lambda read, own, times: x0 * scale  # type: ignore[method-assign]
    states = interpolate(x0, noise, t[:, None].expand(-1, 16))
    found = model.denoiser(read_prompts(model, ["red", "blue coat"]), model.canvas()).velocity(states, t)
    torch.testing.assert_close(found, target_velocity(x0, noise), atol=1e-5, rtol=1e-5)


def test_the_first_stage_learns_both_and_ends_in_the_same_bits_after_an_interruption(tmp_path: Path) -> None:
    from tiny import tiny_settings

    settings = tiny_settings(steps=40, evaluate_every=20, checkpoint_every=10)

    def run(folder: Path, stop_at: int | None) -> dict[str, torch.Tensor]:
        model = fake_model(make_fake_base(tmp_path / "base", TALK.split()))
        data = data_of(model)
        parameters = adapted(model)
        before = held_out(model, data, settings)

        def on_step(log) -> None:
            if log.step == stop_at:
                raise KeyboardInterrupt

        train_sft(model, parameters, data, settings, 3, folder, replace(QUIET, on_step=on_step))
        after = held_out(model, data, settings)
        assert after[0] < 0.95 * before[0] and after[1] < 0.95 * before[1]
        with adapter_off(model.network):
            assert held_out(model, data, settings) == before
        return {name: parameter.detach().clone() for name, parameter in parameters.items()}

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", 25)
    continued = run(tmp_path / "cut", None)
    assert all(torch.equal(whole[name], continued[name]) for name in whole)


def test_the_second_stage_moves_what_draws_and_its_first_ratio_is_one(model: FakeModel, tmp_path: Path) -> None:
    settings = grpo_settings()
    prompts = read_prompts(model, ["red coat", "blue coat"])
    parameters = adapted(model)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    rollout = roll_out(model, prompts, model.canvas(), settings.grpo, torch.Generator().manual_seed(0))
    gains = torch.randn(8, generator=torch.Generator().manual_seed(0))
    told = policy_gradient(model, prompts, rollout, gains, range(2), settings.grpo, 8)
    assert (told.log_ratio_deviation, told.clipped) == (0.0, 0.0)
    for parameter in parameters.values():
        parameter.grad = None
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    result = train_grpo(
        model, parameters, data_of(model), SCENES, tiny_judges(model), settings, tmp_path, NOT_LISTENING
    )
    assert result.iterations == 3
    moved = {name for name in before if not torch.equal(before[name], parameters[name])}
    assert moved == {name for name in before if model.shapes.role_of(name) == "picture"}


def test_an_adapter_is_read_back_and_acts(model: FakeModel, tmp_path: Path) -> None:
    config = lora_config(model.shapes, rank=4, alpha=8, first_layer=1)
    parameters = add_adapter(model.network, config, seed=0)
    for parameter in parameters.values():
        parameter.data.normal_(generator=torch.Generator().manual_seed(1))
    save_adapter(model.network, config, tmp_path / "adapter", "fake")
    other = fake_model(tmp_path / "base")
    bare = other.text_loss(data_of(other).samples("dialogues"))[0]
    load_adapter(other, tmp_path / "adapter", torch.float32)
    torch.testing.assert_close(
        other.text_loss(data_of(other).samples("dialogues"))[0], model.text_loss(data_of(model).samples("dialogues"))[0]
    )
    assert other.text_loss(data_of(other).samples("dialogues"))[0] != bare


def test_another_familys_part_is_refused(model: FakeModel) -> None:
    from tiny import tiny_data

    with pytest.raises(TypeError, match="no part of this family"):
        model.text_loss(tiny_data().samples("dialogues"))


def test_a_whole_run_on_a_folder_of_this_family_and_talking_to_its_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, FAKE))
    monkeypatch.setenv("CHARFORGE_CACHE", str(tmp_path / "cache"))
    pairs = expand(read_character(WREN), 0).pairs
    words = re.findall(r"\w+|[^\w\s]", " ".join(text for pair in pairs for text in pair.texts(None)) + TALK)
    base = make_fake_base(tmp_path / "fake", words)
    assert check_folder(base, "fake").autoencoder is None
    small = [
        "sft.steps=4", "sft.evaluate_every=2", "grpo.iterations=2", "grpo.prompts=2", "grpo.updates=2", "grpo.group=4",
        "grpo.steps=5",
        "grpo.window_last_start=2", "grpo.held_out_pictures=2", "grpo.anchor_pictures=2", "adapter.frozen_share=0.0",
        "chat.max_tokens=8", "pictures.draw_side=16",
    ]  # fmt: skip
    with pytest.raises(InputError, match="3 pixels a side"):
        # said before anything is trained
        train_character(
            WREN, preset="mini", base=str(base), out=tmp_path / "no", seed=None, overrides=[*small, "grpo.side=3"],
            quantize=None,
        )  # fmt: skip
    assert not (tmp_path / "no" / "checkpoints").exists()
    done = train_character(
        WREN, preset="mini", base=str(base), out=tmp_path / "run", seed=None, overrides=small, quantize=None
    )
    assert done.metrics["stage"] == "grpo"
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert "failed_parts" not in result and result["held_out_perplexity_on"] is not None
    assert read_bundle(done.bundle).manifest.base.name == str(base)
    session = open_character(done.bundle)
    said = [reply_of(Conversation(one).say("Who are you?", 1)).text for one in (session, open_character(done.bundle))]
    assert said[0] == said[1]
    picture = imagine(session, "in a forest", [1]).pictures[0]
    assert picture.size == (16, 16)
    seats = open_seats([done.bundle, done.bundle], None)
    assert [seat.voice.id for seat in seats[:2]] == ["wren", "wren-2"] and seats[2].session.bare
    assert seats[0].session.base is seats[1].session.base and seats[0].voice.side == (16, 16)
    bare = draw_prompts(load_base(str(base)).model, ["Wren, in a forest"], [1])[0]
    assert bare.tobytes() != picture.tobytes()


def test_a_folder_that_is_no_familys_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no base that charforge knows"):
        load_base(str(make_fake_base(tmp_path / "fake", ["yes"])))


def test_targets_may_be_stored_in_the_familys_own_units(model: FakeModel) -> None:
    state = torch.randn(16, 48, generator=torch.Generator().manual_seed(0)) / 4
    target = model.target(state, model.canvas())
    torch.testing.assert_close(model.decode_target(target), model.decode(state[None], model.canvas())[0])
    noise = Noise(torch.tensor([0.5]), torch.randn(16, 48, generator=torch.Generator().manual_seed(1)))
    total, count = model.picture_loss([(model.text("red"), target)], noise, prompt_gradients=False)
    assert count == len(stack_targets([(target,)])[0]) and total > 0
