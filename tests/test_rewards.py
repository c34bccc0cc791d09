"""What pictures are paid for: each part against closed forms, the judges on a tiny base, missing weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny import CONFIG, tiny_data, tiny_model
from tiny_base import SCENES, tiny_judges

from charforge.adapter.lora import add_adapter, lora_config
from charforge.errors import InputError, MachineError
from charforge.families.bagel.context import empty_context, extend_context
from charforge.families.bagel.packing import pack
from charforge.judges import published
from charforge.judges.encoders import load_encoder, load_text_matcher
from charforge.judges.judges import (
    SCALE_FLOOR,
    load_judges,
    reward_parts,
    total_reward,
    update_scales,
    weights_of,
)
from charforge.judges.likeness import (
    calibrate,
    copying_reward,
    identity_reward,
    leave_one_out_variety,
    nearest_similarity,
)
from charforge.judges.published_judges import load_published_judges
from charforge.judges.scene import answer_probabilities, keyed_probabilities, scene_reward
from charforge.pixels import to_pixels
from charforge.settings import RewardSettings

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


def test_the_answer_is_read_where_the_model_would_give_it():
    model = tiny_model()
    looks = model.look_at(pictures(2)).parts
    asked = [(0, "Is the character in a forest ?"), (1, "Is it on a beach ?"), (0, "Is it ?")]
    told = answer_probabilities(model, looks, asked)
    yes, no = (model.tokenizer.encode(word)[0] for word in ("Yes", "No"))
    for value, (row, question) in zip(told, asked, strict=True):
        with torch.no_grad():
            seen = extend_context(model.network, empty_context(), [looks[row]])
            reply = model.text("Yes .", "assistant", loss=True)
            batch = pack(
                [[model.text(question, "user"), reply]], CONFIG, (seen.valid, seen.understanding_valid),
                seen.positions,
            )  # fmt: skip
            logits = model.network(batch, seen.cache).logits[0]
        assert value.item() == pytest.approx(logits[[yes, no]].softmax(-1)[0].item(), abs=1e-5)


def test_the_judge_is_the_base_without_its_adapter():
    model = tiny_model()
    before = scene_reward(model, pictures(3), HELD)
    for parameter in add_adapter(model.network, lora_config(CONFIG, 4, 8), 0).values():
        parameter.data = torch.randn(parameter.shape) * 0.2
    torch.testing.assert_close(scene_reward(model, pictures(3), HELD), before, atol=1e-5, rtol=1e-5)


def test_a_scene_is_the_mean_of_what_was_expected():
    model = tiny_model()
    looks = model.look_at(pictures(1)).parts
    yes = answer_probabilities(model, looks, [(0, check.question) for check in HELD[0].checks])
    expected = torch.stack([p if check.answer else 1 - p for p, check in zip(yes, HELD[0].checks, strict=True)]).mean()
    assert scene_reward(model, pictures(1), HELD[:1]).item() == pytest.approx(expected.item(), abs=1e-5)


def test_keyed_answers_share_out_all_probability():
    model = tiny_model()
    told = keyed_probabilities(model, pictures(3), HELD)
    assert set(told) == {"place"} and told["place"].shape == (3,)
    swapped = [
        scene.model_copy(update={"keyed": tuple(k.model_copy(update={"right": 1}) for k in scene.keyed)})
        for scene in HELD
    ]
    torch.testing.assert_close(told["place"] + keyed_probabilities(model, pictures(3), swapped)["place"], torch.ones(3))


# the sum


def test_parts_are_weighed_in_units_of_their_own_scale():
    model = tiny_model()
    judges = tiny_judges(model)
    parts = reward_parts(judges, pictures(8), [HELD[0]] * 4 + [HELD[1]] * 4, 4)
    assert set(parts) == {"scene", "identity", "copying", "variety"}
    assert all(part.shape == (8,) for part in parts.values())
    scales = update_scales({}, parts, 4)
    total = total_reward(parts, judges.settings, scales)
    doubled = {name: part * 1000 for name, part in parts.items()}
    again = total_reward(doubled, judges.settings, update_scales({}, doubled, 4))
    if all(scales[name] > SCALE_FLOOR[name] for name in scales):
        torch.testing.assert_close(total, again)
    moved = update_scales(scales, doubled, 4)
    assert moved["scene"] == pytest.approx(scales["scene"] * (0.9 + 0.1 * 1000), rel=1e-4)


def test_a_part_that_hardly_differs_is_not_blown_up():
    parts = {"scene": torch.tensor([0.5, 0.5 + 1e-6, 0.5, 0.5])}
    settings = RewardSettings(scene=1.0, identity=0, copying=0, variety=0)
    total = total_reward(parts, settings, update_scales({}, parts, 4))
    assert (total.max() - total.min()).item() < 1e-3
    assert weights_of(settings) == {"scene": 1.0}


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


def test_the_published_judges_without_weights_are_an_error_with_a_remedy(tmp_path: Path):
    with pytest.raises(MachineError, match="published = false"):
        load_published_judges(torch.device("cpu"), blip=str(tmp_path))


def test_too_few_pictures_are_an_error_that_names_the_way_out():
    with pytest.raises(InputError, match="--stage sft"):
        load_judges(tiny_model(), RewardSettings(), {})


def test_a_weight_without_its_judge_is_an_error():
    from charforge.sample import Picture, target_of

    model = tiny_model()
    looks = model.look_at(pictures(4)).parts
    own = {
        str(n): Picture(target_of(sample), look)
        for n, (sample, look) in enumerate(zip(tiny_data().pictures, looks, strict=True))
    }
    with pytest.raises(InputError, match=r"reward\.clip"):
        load_judges(model, RewardSettings(clip_text=0.4), own)
    assert load_judges(model, RewardSettings(), own).references.features.shape[0] == 4
