"""What pictures are paid for: each part against closed forms, the judges on a tiny base, missing weights."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import CONFIG, tiny_data, tiny_model
from tiny_base import SCENES, tiny_base, tiny_judges

from charforge import likelihood
from charforge.adapter.lora import add_adapter, lora_config
from charforge.errors import InputError, MachineError
from charforge.evaluate.measure import draw_scenes, scene_values
from charforge.families.bagel.context import empty_context, extend_context
from charforge.families.bagel.packing import pack
from charforge.families.bagel.unified import UnifiedBagel
from charforge.judges import published
from charforge.judges.encoders import load_encoder, load_text_matcher
from charforge.judges.evidence import Evidence
from charforge.judges.judges import (
    check_rewards,
    load_judges,
    reward_parts,
    total_reward,
    update_scales,
    weights_of,
)
from charforge.judges.likeness import calibrate, nearest_similarity
from charforge.judges.needs import CLIP, judges_gib
from charforge.judges.published_judges import load_published_judges
from charforge.judges.reward import Reward
from charforge.judges.rewards import REWARDS
from charforge.judges.rewards.copying import copying_reward
from charforge.judges.rewards.identity import identity_reward
from charforge.judges.rewards.variety import leave_one_out_variety
from charforge.judges.scene import judge_scenes, scene_reward
from charforge.likelihood import Question, answer_likelihoods, probabilities
from charforge.pixels import through_bytes, to_image, to_pixels
from charforge.resources import preset_path
from charforge.run.job import train_character
from charforge.sample import Part, Picture, target_of
from charforge.settings import RewardSettings, Settings, deciding, read_settings, settings_toml
from charforge.train.held_out_scenes import measure_scenes

EXAMPLES = Path(__file__).parent.parent / "examples"
HELD = [scene for scene in SCENES if scene.split == "held_out"]


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def unit(*rows: tuple[float, ...]) -> torch.Tensor:
    return F.normalize(torch.tensor(rows, dtype=torch.float32), dim=-1)


# identity, copying, variety


def test_thresholds_come_from_the_characters_own_pictures():
    own = unit((1, 0, 0), (1, 0.1, 0), (1, 0, 0.5), (0, 1, 0.2))
    known = calibrate(own)
    between = own @ own.T
    assert known.copy == pytest.approx(between[0, 1].item())
    assert known.low < known.cap <= known.copy
    # no picture of the character counts as a copy of another one
    for index in range(4):
        others = calibrate(own)
        rest = torch.cat([own[:index], own[index + 1 :]])
        assert (own[index] @ rest.T).max() <= others.copy + 1e-6
    with pytest.raises(ValueError, match="three"):
        calibrate(own[:2])


def test_identity_is_paid_up_to_its_cap_and_copying_costs():
    known = calibrate(unit((1, 0, 0), (1, 0.6, 0), (1, 0, 0.7), (0.2, 1, 0.2)))
    copy, usual = known.features[:1], unit((1, 0.35, 0.4))
    nearest = nearest_similarity(torch.cat([copy, usual]), known)
    assert nearest[0] == pytest.approx(1, abs=1e-6)
    paid = identity_reward(nearest, known)
    assert paid[0].item() == pytest.approx(known.cap, abs=1e-6)
    assert copying_reward(nearest, known.copy, known.low)[0] < 0


def test_the_published_penalty_at_its_published_values():
    """unicharacter.md 7.5: PEN(0.95) = -0.1, PEN(0.7) = 0, PEN(0.4) = -0.2."""
    s = torch.tensor([0.95, 0.7, 0.4])
    expected = torch.tensor([-0.1, 0.0, -0.2])
    torch.testing.assert_close(published.penalty(s), expected)
    torch.testing.assert_close(copying_reward(s, 0.9, 0.5), expected)


def test_variety_is_each_pictures_own_mean_distance_to_its_siblings():
    features = unit((1, 0), (1, 0), (1, 0), (0, 1), (1, 0), (1, 0), (1, 0), (1, 0))
    all_paid = torch.ones(8, dtype=torch.bool)
    expected = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0, 0, 0, 0, 0])
    torch.testing.assert_close(leave_one_out_variety(features, 4, all_paid), expected, atol=1e-6, rtol=0)
    gated = all_paid.clone()
    gated[3] = False
    assert leave_one_out_variety(features, 4, gated)[3] == 0


# the published reward


def test_published_scores_at_their_published_values():
    assert published.vqa_score(["Yes ", "no"], ["yes", "yes"], [1.0, 0.5]) == pytest.approx(2 / 3)
    assert published.clip_score(torch.tensor(0.3)).item() == pytest.approx(1.0)
    assert sum(published.WEIGHTS.values()) == pytest.approx(1.0)


def test_the_published_diversity_is_one_number_for_all_siblings():
    distances = torch.tensor([[[0.0, 0.2, 0.4], [0.2, 0.0, 0.6], [0.4, 0.6, 0.0]]])
    torch.testing.assert_close(published.group_diversity(distances), torch.full((3,), 0.4))


# scenes, by the base's own eyes


def looks_at(model: UnifiedBagel, count: int) -> tuple[Part, ...]:
    return model.look_at(pictures(count)).parts


def test_the_answer_is_read_where_the_model_would_give_it():
    model = tiny_model()
    looks = looks_at(model, 2)
    asked = [(0, "Is the character in a forest ?"), (1, "Is it on a beach ?"), (0, "Is it ?")]
    questions = [Question(row, text, ("Yes .", "No ."), first_word=True) for row, text in asked]
    told = answer_likelihoods(model, [(look,) for look in looks], questions)
    yes, no = (model.tokenizer.encode(word)[0] for word in ("Yes", "No"))
    for values, (row, question) in zip(told, asked, strict=True):
        with torch.no_grad():
            seen = extend_context(model.network, empty_context(), [looks[row]])
            reply = model.text("Yes .", "assistant", loss=True)
            batch = pack(
                [[model.text(question, "user"), reply]], CONFIG, (seen.valid, seen.understanding_valid),
                seen.positions,
            )  # fmt: skip
            logits = model.network(batch, seen.cache).logits[0]
        expected = logits[[yes, no]].softmax(-1)[0].item()
        assert probabilities(values)[0].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("most", [1, 60, 10_000])
def test_answers_read_together_in_any_portions_are_those_read_alone(monkeypatch: pytest.MonkeyPatch, most: int):
    monkeypatch.setattr(likelihood, "CACHED_TOKENS", most)
    model = tiny_model()
    before = [(look,) for look in looks_at(model, 3)]
    options = (("In a forest .", "In a desert .", "On a beach ."), ("Yes .", "No ."))
    questions = [Question(row, "Where is it ?", options[row % 2], row == 1) for row in (2, 0, 1, 2)]
    for question, found in zip(questions, answer_likelihoods(model, before, questions), strict=True):
        assert len(found) == len(question.answers)
        for answer, values in zip(question.answers, found, strict=True):
            reply = model.text(answer, "assistant", loss=True)
            alone = model.log_likelihoods([(*before[question.after], model.text(question.text, "user"), reply)])[0]
            first = model.reply_prefix()
            torch.testing.assert_close(
                values, alone[first : first + 1] if question.first_word else alone[first:], atol=1e-5, rtol=1e-5
            )


def test_a_picture_is_looked_at_once_for_all_that_is_asked_of_it(monkeypatch: pytest.MonkeyPatch):
    model, sizes = tiny_model(), list[int]()
    judges = tiny_judges(model)
    tower = model.network.vit_model.forward

    def counted(patches: torch.Tensor, ids: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        sizes.append(len(lengths))
        return tower(patches, ids, lengths)

    monkeypatch.setattr(model.network.vit_model, "forward", counted)
    measure_scenes(model, judges, HELD, 0, 3)
    assert sum(sizes) == 3
    reward_parts(judges, pictures(8), [HELD[0]] * 4 + [HELD[1]] * 4, 4)
    assert sum(sizes) == 3 + 8


def test_training_finds_copies_as_the_evaluation_does(monkeypatch: pytest.MonkeyPatch):
    model = tiny_model()
    judges = tiny_judges(model)
    own = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    # darker and of less contrast: to the encoder other pictures, by the pixels the same
    dimmed = 0.2 * own[:3] - 0.6
    assert not (nearest_similarity(judges.encoder.encode(dimmed), judges.references) > judges.references.copy).any()
    monkeypatch.setattr("charforge.train.held_out_scenes.draw_pixels", lambda model, prompts, seeds: dimmed)
    assert measure_scenes(model, judges, HELD, 0, 3).copy_rate == 1.0
    monkeypatch.setattr("charforge.train.held_out_scenes.draw_pixels", lambda model, prompts, seeds: pictures(3))
    assert measure_scenes(model, judges, HELD, 0, 3).copy_rate == 0.0


def test_what_was_looked_at_reads_as_what_is_looked_at_while_reading():
    model = tiny_model()
    looked = model.look_at(pictures(3))
    bare = [(replace(look, features=None),) for look in looked.parts]
    questions = [Question(row, "Where is it ?", ("In a forest .",)) for row in range(3)]
    found = answer_likelihoods(model, [(look,) for look in looked.parts], questions)
    for (values,), (again,) in zip(found, answer_likelihoods(model, bare, questions), strict=True):
        torch.testing.assert_close(values, again, atol=1e-6, rtol=1e-6)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_pixels_go_through_bytes_without_a_picture_to_the_same_bits(seed: int):
    values = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(seed)) * 2.4 - 1.2
    assert torch.equal(through_bytes(values), to_pixels(to_image(values), (12, 8)))


def test_the_judge_is_the_base_without_its_adapter():
    model = tiny_model()
    looks = looks_at(model, 3)
    before = scene_reward(model, looks, HELD)
    for parameter in add_adapter(model.network, lora_config(CONFIG, 4, 8), 0).values():
        parameter.data = torch.randn(parameter.shape) * 0.2
    torch.testing.assert_close(scene_reward(model, looks, HELD), before, atol=1e-5, rtol=1e-5)


def test_a_scene_is_the_mean_of_what_was_expected():
    model = tiny_model()
    looks = looks_at(model, 1)
    questions = [Question(0, check.question, ("Yes.", "No."), first_word=True) for check in HELD[0].checks]
    yes = [probabilities(values)[0] for values in answer_likelihoods(model, [(looks[0],)], questions)]
    expected = torch.stack([p if check.answer else 1 - p for p, check in zip(yes, HELD[0].checks, strict=True)]).mean()
    assert scene_reward(model, looks, HELD[:1]).item() == pytest.approx(expected.item(), abs=1e-5)


def test_keyed_answers_share_out_all_probability_beside_the_reward():
    model = tiny_model()
    looks = looks_at(model, 3)
    shown, told = judge_scenes(model, looks, HELD)
    torch.testing.assert_close(shown, scene_reward(model, looks, HELD))
    assert set(told) == {"place"} and told["place"].shape == (3,)
    swapped = [
        scene.model_copy(update={"keyed": tuple(k.model_copy(update={"right": 1}) for k in scene.keyed)})
        for scene in HELD
    ]
    torch.testing.assert_close(told["place"] + judge_scenes(model, looks, swapped)[1]["place"], torch.ones(3))


# the sum


def test_parts_are_weighed_in_units_of_their_own_scale():
    model = tiny_model()
    judges = tiny_judges(model)
    parts = reward_parts(judges, pictures(8), [HELD[0]] * 4 + [HELD[1]] * 4, 4)
    assert {"scene", "identity", "copying", "variety"} <= set(parts)
    assert all(part.shape == (8,) for part in parts.values())
    scales = update_scales({}, parts, 4)
    total = total_reward(parts, judges.settings, scales)
    doubled = {name: part * 1000 for name, part in parts.items()}
    again = total_reward(doubled, judges.settings, update_scales({}, doubled, 4))
    if all(scales[reward.name] > reward.scale_floor for reward in REWARDS if reward.name in parts):
        torch.testing.assert_close(total, again)
    moved = update_scales(scales, doubled, 4)
    assert moved["scene"] == pytest.approx(scales["scene"] * (0.9 + 0.1 * 1000), rel=1e-4)


def test_a_part_that_hardly_differs_is_not_blown_up():
    parts = {"scene": torch.tensor([0.5, 0.5 + 1e-6, 0.5, 0.5])}
    alone = RewardSettings(scene=1.0, identity=0, copying=0, variety=0)
    total = total_reward(parts, alone, update_scales({}, parts, 4))
    assert (total.max() - total.min()).item() < 1e-3
    assert weights_of(alone) == {"scene": 1.0}


# encoders


def test_a_dinov2_folder_serves(tmp_path: Path):
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(tmp_path)
    features = load_encoder(f"dinov2:{tmp_path}", torch.device("cpu")).encode(pictures(3))
    assert features.shape == (3, 32)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(3))


def test_the_offline_encoder_tells_pictures_apart_at_any_size():
    encoder = load_encoder("efficientnet-lite0", torch.device("cpu"))
    files = [EXAMPLES / f"wren/images/{name}.png" for name in ("01", "07")]
    large = torch.stack([to_pixels(Image.open(file).convert("RGB"), (256, 256)) for file in files])
    small = F.interpolate(large, (96, 96), mode="area")
    features = encoder.encode(large) @ encoder.encode(small).T
    assert features.diagonal().min() > features.fill_diagonal_(0).max()


@pytest.mark.parametrize("missing", ["dinov2:/nowhere", "vgg"])
def test_a_missing_encoder_is_an_error_with_a_remedy(missing: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MachineError, match="efficientnet-lite0"):
        load_encoder(missing, torch.device("cpu"))


def test_clip_without_open_clip_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MachineError, match=r"charforge\[gpu\]"):
        load_text_matcher("ViT-L-14/openai", torch.device("cpu"))


def test_clip_is_an_encoder_of_pictures_where_open_clip_is_there(monkeypatch: pytest.MonkeyPatch):
    class Eyes(torch.nn.Module):
        def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
            assert pictures.shape[-2:] == (32, 32)
            return pictures.flatten(1)[:, ::97] + 3

    resize, normalise = SimpleNamespace(size=32), SimpleNamespace(mean=(0.5,) * 3, std=(0.25,) * 3)

    def create(model: str, pretrained: str) -> tuple[Eyes, None, SimpleNamespace]:
        assert (model, pretrained) == ("ViT-B-32", "/some/file.pt")
        return Eyes(), None, SimpleNamespace(transforms=[resize, normalise])

    there = SimpleNamespace(create_model_and_transforms=create, get_tokenizer=lambda model: None)
    monkeypatch.setitem(sys.modules, "open_clip", there)
    encoder = load_encoder("clip:ViT-B-32//some/file.pt", torch.device("cpu"))
    assert encoder.name == "clip:ViT-B-32//some/file.pt"
    features = encoder.encode(pictures(3))
    assert features.shape[0] == 3 and features.norm(dim=1).tolist() == pytest.approx([1.0] * 3)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MachineError, match=r"charforge\[gpu\]"):
        load_encoder("clip:ViT-B-32/openai", torch.device("cpu"))


def test_the_published_judges_without_weights_are_an_error_with_a_remedy(tmp_path: Path):
    with pytest.raises(MachineError, match="published = false"):
        load_published_judges(torch.device("cpu"), blip=str(tmp_path))


def test_too_few_pictures_are_an_error_that_names_the_way_out():
    with pytest.raises(InputError, match="--stage sft"):
        load_judges(tiny_model(), RewardSettings(), {})


@pytest.fixture
def own() -> dict[str, Picture]:
    model = tiny_model()
    looks = model.look_at(pictures(4)).parts
    drawn = zip(tiny_data().samples("pictures"), looks, strict=True)
    return {str(n): Picture(target_of(sample), look) for n, (sample, look) in enumerate(drawn)}


def test_what_is_paid_for_can_be_computed_or_is_an_error_before_training(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check_rewards(RewardSettings())
    for wrong, words in (
        ({"clip_text": 0.4}, r"reward\.clip_text needs reward\.clip, .* or set reward\.clip_text = 0"),
        ({"encoder": ""}, r"reward\.identity needs reward\.encoder"),
        ({"beauty": 0.4}, r"reward\.beauty: .* scene, clip_text, identity, copying, variety"),
        ({"scene": 0, "identity": 0, "copying": 0, "variety": 0}, "nothing is paid for"),
    ):
        with pytest.raises(InputError, match=words):
            check_rewards(RewardSettings(**wrong))
    with pytest.raises(MachineError, match="efficientnet-lite0"):
        check_rewards(RewardSettings(encoder="dinov2:/nowhere"))


def test_judges_are_loaded_for_the_characters_own_pictures(own: dict[str, Picture]):
    assert load_judges(tiny_model(), RewardSettings(), own).references.features.shape[0] == 4
    with pytest.raises(InputError, match=r"reward\.beauty"):
        load_judges(tiny_model(), RewardSettings(beauty=1.0), own)


# the table


def test_table_and_settings_agree():
    fields = RewardSettings.model_fields
    given = {reward.name: reward.weight for reward in REWARDS if reward.name in fields}
    assert {name: fields[name].default for name in given} == given and len(given) >= 5
    assert len({reward.name for reward in REWARDS}) == len(REWARDS)
    assert judges_gib(RewardSettings(clip="a/b", encoder="dinov2")) > 50 * judges_gib(RewardSettings()) > 0


@pytest.fixture
def brightness(monkeypatch: pytest.MonkeyPatch) -> Reward:
    """A new reward: a row more."""

    def brightness(evidence: Evidence) -> torch.Tensor:
        return evidence.pictures.mean((1, 2, 3)).cpu()

    row = Reward("brightness", weight=0.5, scale_floor=0.01, compute=brightness)
    monkeypatch.setattr("charforge.judges.judges.REWARDS", (*REWARDS, row))
    return row


def test_a_new_row_is_measured_paid_for_and_set(brightness: Reward):
    judges = tiny_judges(tiny_model())
    parts = reward_parts(judges, pictures(8), [HELD[0]] * 4 + [HELD[1]] * 4, 4)
    assert set(parts) == {"scene", "identity", "copying", "variety", "brightness"}
    assert weights_of(RewardSettings())["brightness"] == 0.5
    alone = RewardSettings(scene=0, identity=0, copying=0, variety=0, brightness=2.0)
    scales = update_scales({}, parts, 4)
    torch.testing.assert_close(
        total_reward(parts, alone, scales), 2 * parts["brightness"] / max(scales["brightness"], 0.01)
    )
    read = read_settings(preset_path("mini"), None, ["reward.brightness=0.25"])
    assert weights_of(read.reward)["brightness"] == 0.25 and "brightness = 0.25" in settings_toml(read)
    assert deciding(read)["reward.brightness"] == 0.25 and "reward.brightness" not in deciding(Settings())
    with pytest.raises(InputError, match=r"reward\.brightness"):
        read_settings(preset_path("mini"), None, ["reward.brightness=bright"])


def test_a_reward_without_what_it_needs_is_left_out_where_it_is_not_paid_for(brightness: Reward):
    assert CLIP in next(reward for reward in REWARDS if reward.name == "clip_text").needs
    assert "clip_text" not in reward_parts(tiny_judges(tiny_model()), pictures(4), [HELD[0]] * 4, 4)


def test_a_run_whose_reward_cannot_be_computed_ends_before_anything_is_made(tmp_path: Path):
    def train(*overrides: str) -> None:
        train_character(
            EXAMPLES / "wren", preset="mini", base=None, out=tmp_path / "run", seed=None, overrides=list(overrides),
            quantize=None,
        )  # fmt: skip

    with pytest.raises(InputError, match=r"reward\.clip_text needs reward\.clip"):
        train("reward.clip_text=0.4")
    with pytest.raises(InputError, match=r"reward\.beauty: there is no such reward"):
        train("reward.beauty=0.4")
    with pytest.raises(MachineError, match="there is no encoder 'vgg'"):
        train("reward.encoder=vgg")
    assert not (tmp_path / "run").exists()


def test_an_evaluation_measures_what_the_judges_say_of_each_scene():
    base = tiny_base()
    judges = tiny_judges(base.model)
    drawn = draw_scenes(base, HELD, 2, lambda done, total: None)
    assert drawn.pictures.shape == (6, 3, 16, 16)
    values = scene_values(base, judges, drawn)
    shown, keyed = judge_scenes(base.model, base.model.look_at(drawn.pictures).parts, drawn.shown)
    assert values["scene_yes_no"] == pytest.approx(shown.view(3, 2).mean(1).numpy(), abs=1e-5)
    assert values["scene"] == pytest.approx(keyed["place"].view(3, 2).mean(1).numpy(), abs=1e-5)
    assert all(value.shape == (3,) for value in values.values())
