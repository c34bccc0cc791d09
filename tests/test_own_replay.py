"""What a base draws and answers itself before its first character: once, cached, the same for all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from charforge.bases.prepare import decode_target, draw_prompts, draw_target
from tiny_base import tiny_base

from charforge.adapter.lora import add_adapter, lora_config
from charforge.families.bagel.images import to_image
from charforge.replay import own as own_replay
from charforge.replay.own import prompts, replay_pictures, replay_texts


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(own_replay, "ANSWER_TOKENS", 6)


def test_a_base_without_pictures_of_its_own_draws_them_once(monkeypatch: pytest.MonkeyPatch):
    base = tiny_base()
    first = replay_pictures(base)
    assert len(first) == len(prompts()) == 20
    assert len(set(prompts())) == 20

    def again(*arguments: object) -> None:
        raise AssertionError("drawn twice")

    monkeypatch.setattr(own_replay, "draw_target", again)
    for one, other in zip(first, replay_pictures(base), strict=True):
        assert torch.equal(one[1].x0, other[1].x0)
        assert one[0].ids == other[0].ids


def test_what_is_replayed_is_what_the_base_draws():
    base = tiny_base()
    prompt = prompts()[0]
    target = draw_target(base, prompt, 5)
    assert to_image(decode_target(base, target)).tobytes() == draw_prompts(base, [prompt], [5])[0].tobytes()


def test_answers_are_those_of_the_bare_base_and_only_finished_ones():
    base = tiny_base()
    samples = replay_texts(base)
    assert all(sample[1].loss and not sample[0].loss for sample in samples)
    # a fresh adapter does nothing: what is drawn and said with it is the base's own
    other = tiny_base()
    add_adapter(other.model, lora_config(4, 8), 0)
    assert [s[1].ids for s in replay_texts(other)] == [s[1].ids for s in samples]


def test_another_size_of_drawing_is_kept_apart():
    base = tiny_base()
    small = base.config.model_copy(update={"sampling": base.config.sampling.model_copy(update={"height": 8})})
    before = own_replay.cached_folder(base)
    base.model.config = small
    assert own_replay.cached_folder(base) != before
