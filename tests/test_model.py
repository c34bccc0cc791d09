"""The unified model beyond the golden data: bases of unequal widths, contexts, layout in and out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from official import save_official
from safetensors.torch import load_file, save_file
from test_golden import GOLDEN
from tiny import CONFIG, tiny_data, tiny_network

from charforge.adapter.lora import add_adapter, lora_config
from charforge.errors import InputError
from charforge.families.bagel.checkpoint import (
    add_low_rank,
    build_empty,
    load_official,
    load_tensors,
    rounded_rows,
)
from charforge.families.bagel.context import empty_context, extend_context, prepare_block, velocity
from charforge.families.bagel.decoder import Grid, Layout
from charforge.families.bagel.images import patchify_latent, unpatchify_latent
from charforge.families.bagel.layers import grid_position_ids
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.packing import Pack, pack, repeat_row
from charforge.families.bagel.sampler import Guidance, draw, draw_steps, guided, timestep_schedule
from charforge.families.bagel.splits import LatentSplit, TextSplit
from charforge.flow import interpolate, logit_normal_timesteps, shift_timesteps, stratified_normal, target_velocity
from charforge.low_rank import adapted_layers, adapter_off, addition_of
from charforge.recipe.answers import ALPHA, RANK, fold_strength


def test_drawing_mixes_no_devices():
    # the meta device refuses, as a GPU does, to compute with a tensor that stayed on the CPU
    model, nothing = build_empty(CONFIG), empty_context(2)
    noise, settings = torch.zeros(2, 4, 16, device="meta"), CONFIG.sampling
    drawn = draw(model, Guidance(nothing, nothing, nothing), noise, grid_position_ids(2, 2, 4), settings)
    assert drawn.device.type == "meta" and drawn.shape == noise.shape


@torch.no_grad()
def test_a_cached_context_gives_the_same_velocity_as_one_pass():
    model = tiny_network()
    text, ids = TextSplit((7, 8, 9)), grid_position_ids(2, 2, 4)
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    whole = model(pack([[text, LatentSplit(x, ids, 0.6)]], CONFIG)).velocity
    context = extend_context(model, empty_context(1), [text])
    block = prepare_block(model, context, ids)
    stepped = velocity(model, block, x[None], torch.tensor([0.6]))[0]
    torch.testing.assert_close(stepped, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("generation_layers", [None, (1, 2)])
@pytest.mark.parametrize("behind", [True, False])
def test_a_row_repeated_is_as_each_laid_out(generation_layers: tuple[int, ...] | None, behind: bool):
    config = CONFIG.model_copy(update={"generation_layers": generation_layers})
    split, starts, past = LatentSplit(torch.randn(6, 16), grid_position_ids(2, 3, 4), 0.3), [0, 0], None
    if behind:
        starts = [5, 0, 2]
        past = (torch.rand(3, 7) < 0.5, torch.rand(3, 4) < 0.5)
    each = pack([[split]] * len(starts), config, past, starts)
    repeated = repeat_row(pack([[split]], config), starts, past)
    torch.testing.assert_close(vars_of(repeated), vars_of(each), rtol=0, atol=0)


def vars_of(value: object) -> object:
    """A pack as plain values, tensors and all."""
    return {k: vars_of(v) for k, v in vars(value).items()} if isinstance(value, Pack | Layout | Grid) else value


@torch.no_grad()
def test_both_velocities_of_guidance_in_one_pass_are_as_in_two(monkeypatch):
    model, ids = tiny_network(), grid_position_ids(2, 2, 4)
    generator = torch.Generator().manual_seed(1)
    clean = [LatentSplit(torch.randn(4, 16, generator=generator), ids) for _ in range(2)]
    picture = extend_context(model, empty_context(2), clean)
    full = extend_context(model, picture, [TextSplit((7, 8, 9)), TextSplit((5, 6))])
    noise = torch.randn(2, 4, 16, generator=generator)
    settings = CONFIG.sampling.model_copy(update={"steps": 4, "cfg_text_scale": 3.0, "cfg_interval": (0.5, 1.0)})
    for without_text in (empty_context(2), picture):
        guidance = Guidance(full, without_text, full)
        together = draw(model, guidance, noise, ids, settings)
        with monkeypatch.context() as patch:
            patch.setattr("charforge.families.bagel.sampler.JOINED_TOKENS", 0)
            apart = draw(model, guidance, noise, ids, settings)
        unguided = draw(model, guidance, noise, ids, settings.model_copy(update={"cfg_text_scale": 1.0}))
        torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-4)
        assert (together - unguided).abs().max() > 1e-3


@torch.no_grad()
def test_guidance_leads_away_from_the_bare_base_at_first():
    model, ids = tiny_network(), grid_position_ids(2, 2, 4)
    parameters = add_adapter(model, lora_config(CONFIG, 4, 8), 0)
    generator = torch.Generator().manual_seed(3)
    for parameter in parameters.values():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    full = extend_context(model, empty_context(1), [TextSplit((7, 8, 9))])
    guidance, noise = Guidance(full, empty_context(1), full), torch.randn(1, 4, 16, generator=generator)
    settings = CONFIG.sampling.model_copy(update={"steps": 4, "cfg_text_scale": 3.0, "cfg_interval": (0.0, 1.0)})
    steps = list(draw_steps(model, guidance, noise, ids, settings))
    befores = [noise, *(step.states for step in steps)]
    for x, step, now in zip(befores, steps, timestep_schedule(4, settings.timestep_shift), strict=False):
        time, drawn = now[None], step.velocity
        cond = velocity(model, prepare_block(model, full, ids), x, time)
        own = velocity(model, prepare_block(model, empty_context(1), ids), x, time)
        with adapter_off(model):
            bare = velocity(model, prepare_block(model, empty_context(1), ids), x, time)
        text, other = (bare, own) if now > 0.75 else (own, bare)
        # ten times less than what the wrong one is off, ten times more than what a processor rounds otherwise
        torch.testing.assert_close(drawn, guided(cond, text, None, settings), atol=1e-4, rtol=1e-3)
        assert (drawn - guided(cond, other, None, settings)).abs().max() > 1e-3, step.done
    assert [float(now) > 0.75 for now in timestep_schedule(4, settings.timestep_shift)[:3]] == [True, True, False]


def adapter_acts(model: torch.nn.Module) -> bool:
    """Whether the model differs from the bare base: it has an adapter, and that is on."""
    return any(not layer._disable_adapters for layer in adapted_layers(model))


def test_an_adapter_that_is_off_stays_off_after_a_block_inside():
    model = tiny_network()

    def adapter_acts(model: BagelModel) -> bool:
        return any(addition_of(layer) is not None for layer in adapted_layers(model))

    assert not adapter_acts(model)
    add_adapter(model, lora_config(CONFIG, 4, 8), 0)
    assert adapter_acts(model)
    with adapter_off(model):
        with adapter_off(model):
            assert not adapter_acts(model)
        assert not adapter_acts(model)
    assert adapter_acts(model)


@torch.no_grad()
def test_rows_of_unequal_length_do_not_see_each_other():
    model = tiny_network()
    short, long = TextSplit((7, 8)), TextSplit((9, 10, 11, 12, 13))
    both = extend_context(model, extend_context(model, empty_context(2), [short, long]), [long, short])
    for row, (first, second) in enumerate(((short, long), (long, short))):
        alone = extend_context(model, extend_context(model, empty_context(1), [first]), [second])
        assert both.positions[row] == alone.positions[0]
        valid = both.understanding_valid[row]
        for ours, theirs in zip(both.cache, alone.cache, strict=True):
            torch.testing.assert_close(ours[0][row][_valid_of(ours[0], both, row)], theirs[0][0], atol=1e-5, rtol=1e-4)
        assert int(valid.sum()) == len(first.ids) + len(second.ids) + 4


def _valid_of(keys: torch.Tensor, context, row: int) -> torch.Tensor:
    # layers with both experts and layers without keep caches of their own length
    joint = keys.shape[1] == context.valid.shape[1]
    return context.valid[row] if joint else context.understanding_valid[row]


def test_text_never_sees_the_noise_behind_it():
    model, data = tiny_network(), tiny_data()
    text, target = data.samples("pictures")[0]
    later = TextSplit((20, 21), loss=True)
    first, second = (
        model(pack([[text, LatentSplit(value, target.position_ids, 0.5), later]], CONFIG)).logits
        for value in (torch.zeros(4, 16), torch.ones(4, 16))
    )
    assert torch.equal(first, second)


def test_dropped_pictures_still_advance_the_position():
    # bagel.md section 4: two dropped pictures at the start leave the first text at position 2
    batch = pack([[TextSplit((5, 6))]], CONFIG, starts=[2])
    assert batch.layout.understanding_positions.tolist() == [2, 3, 4, 5]


def test_latent_patches_round_trip():
    latent = torch.randn(16, 6, 8)
    assert torch.equal(unpatchify_latent(patchify_latent(latent, 2), 3, 4, 2), latent)


def test_official_layout_round_trips(tmp_path: Path):
    model, autoencoder = load_official(GOLDEN / "ckpt", torch.bfloat16)
    save_official(tmp_path, model, autoencoder, torch.bfloat16)
    written, published = load_file(tmp_path / "ema.safetensors"), load_file(GOLDEN / "ckpt/ema.safetensors")
    assert written.keys() == published.keys()
    assert all(torch.equal(written[name], published[name]) for name in written)
    ours, theirs = load_file(tmp_path / "ae.safetensors"), load_file(GOLDEN / "ckpt/ae.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert load_official(tmp_path)[0].config == model.config


def test_a_base_with_unequal_experts_has_no_official_layout(tmp_path: Path):
    _, autoencoder = load_official(GOLDEN / "ckpt")
    with pytest.raises(InputError, match="same shape"):
        save_official(tmp_path, tiny_network(), autoencoder, torch.float32)


def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path: Path):
    state = load_file(GOLDEN / "ckpt/ema.safetensors")
    model, _ = load_official(GOLDEN / "ckpt")
    state["stranger"] = torch.zeros(1)
    state["llm2vae.bias"] = torch.zeros(3)
    del state["vae2llm.bias"]
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(InputError) as raised:
        load_tensors(build_empty(model.config), [tmp_path / "x.safetensors"], torch.float32)
    for words in (
        "unexpected tensor stranger",
        "llm2vae.bias in x.safetensors has shape [3]",
        "missing tensor vae2llm.bias",
    ):
        assert words in str(raised.value)


def test_int8_rows_read_back_within_half_a_step(tmp_path: Path):
    model = tiny_network()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(rounded_rows(state), tmp_path / "x.safetensors")
    loaded = build_empty(CONFIG)
    load_tensors(loaded, [tmp_path / "x.safetensors"], torch.float32)
    for name, tensor in loaded.state_dict().items():
        if tensor.ndim == 2:
            step = state[name].abs().amax(1, keepdim=True) / 127
            assert ((tensor - state[name]).abs() <= 0.51 * step).all(), name


def test_flow_endpoints_and_shift():
    x0, noise = torch.randn(3, 4), torch.randn(3, 4)
    assert torch.equal(interpolate(x0, noise, torch.zeros(3)), x0)
    assert torch.equal(interpolate(x0, noise, torch.ones(3)), noise)
    torch.testing.assert_close(x0 + target_velocity(x0, noise), noise)
    assert shift_timesteps(torch.tensor([0.0, 0.5, 1.0]), 3.0).tolist() == [0.0, 0.75, 1.0]
    assert logit_normal_timesteps(torch.tensor(-torch.inf), 3.0) == 0


def test_stratified_times_cover_every_slice_once():
    normal = stratified_normal(64, torch.Generator().manual_seed(0))
    slices = (torch.special.ndtr(normal) * 64).floor().long().sort().values
    assert slices.tolist() == list(range(64))


@torch.no_grad()
def test_a_low_rank_addition_is_the_adapter_merged():
    adapted, merged = tiny_network(), tiny_network()
    add_adapter(adapted, lora_config(CONFIG, RANK, ALPHA, roles=("text",)), seed=0)
    generator = torch.Generator().manual_seed(3)
    trained = {}
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
            trained[name] = parameter.data
    batch = pack([[TextSplit((5, 6, 7), loss=True)]], CONFIG)
    before = merged(batch).logits
    add_low_rank(merged, fold_strength(trained))
    torch.testing.assert_close(merged(batch).logits, adapted(batch).logits, atol=1e-4, rtol=1e-4)
    assert (merged(batch).logits - before).abs().max() > 0.1


def test_an_addition_that_does_not_fit_is_refused():
    name = "language_model.model.layers.0.self_attn.q_proj"
    with pytest.raises(InputError, match="does not fit"):
        add_low_rank(tiny_network(), {f"{name}.lora_A": torch.zeros(2, 5), f"{name}.lora_B": torch.zeros(7, 2)})
    with pytest.raises(InputError, match="which this base has not"):
        add_low_rank(tiny_network(), {"nowhere.lora_A": torch.zeros(2, 5), "nowhere.lora_B": torch.zeros(7, 2)})
