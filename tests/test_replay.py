"""What a base draws and answers itself before its first character: once, cached, the same for all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_base import tiny_base

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import Base
from charforge.bases.drawing import draw_prompts, draw_target
from charforge.pixels import to_image
from charforge.replay import answers, drawings
from charforge.replay.answers import QUESTIONS, replay_texts
from charforge.replay.cache import cached_folder
from charforge.replay.drawings import prompts, replay_pictures


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(answers, "ANSWER_TOKENS", 12)


def test_a_base_without_pictures_of_its_own_draws_them_once(monkeypatch: pytest.MonkeyPatch):
    base = tiny_base()
    first = replay_pictures(base)
    assert len(first) == len(prompts()) == 20
    assert len(set(prompts())) == 20

    def again(*arguments: object) -> None:
        raise AssertionError("drawn twice")

    monkeypatch.setattr(drawings, "draw_target", again)
    for one, other in zip(first, replay_pictures(base), strict=True):
        assert torch.equal(one[1].x0, other[1].x0)
        assert one[0].ids == other[0].ids


def test_what_is_replayed_is_what_the_base_draws():
    base = tiny_base()
    prompt = prompts()[0]
    target = draw_target(base.model, prompt, 5)
    drawn = draw_prompts(base.model, [prompt], [5])[0]
    assert to_image(base.model.decode_target(target)).tobytes() == drawn.tobytes()


def test_answers_are_those_of_the_bare_base_and_only_finished_ones():
    def talkative() -> Base:
        base = tiny_base(2)
        embedded = base.model.network.language_model.model.embed_tokens.weight
        # the end is likelier than this base has it by itself: eleven of sixteen answers come to it
        embedded.data[base.model.shapes.special_tokens.eos] *= 2
        return base

    base = talkative()
    samples = replay_texts(base)
    assert 0 < len(samples) < len(QUESTIONS)
    assert all(sample[1].loss and not sample[0].loss for sample in samples)
    said = (cached_folder(base) / "texts.jsonl").read_text("utf-8")
    # a fresh adapter does nothing: what is said with it is the base's own
    (cached_folder(base) / "texts.jsonl").unlink()
    other = talkative()
    add_adapter(other.model.network, lora_config(other.model.shapes, 4, 8), 0)
    assert [s[1].ids for s in replay_texts(other)] == [s[1].ids for s in samples]
    assert (cached_folder(base) / "texts.jsonl").read_text("utf-8") == said


def test_another_size_of_drawing_is_kept_apart():
    base = tiny_base()
    before = cached_folder(base)
    base.model.use_picture_sizes(None, None, 8, None)
    assert cached_folder(base) != before
