"""Unified-SFT on a tiny random base: the losses, the loop, resuming, quantised bases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from official import quantize_decoder
from safetensors.torch import load_file
from tiny import CONFIG, changed, tiny_data, tiny_model, tiny_network, tiny_settings

from charforge.adapter.load import load_adapter
from charforge.adapter.lora import adapter_state, add_adapter, lora_config, save_adapter
from charforge.errors import InputError
from charforge.families.bagel.packing import pack
from charforge.low_rank import adapted_layers, adapter_off, addition_of
from charforge.quantization import is_int8_right
from charforge.sample import Noise
from charforge.train.checkpoints import load_best
from charforge.train.interrupt import Interruption
from charforge.train.losses import Weights, draw_noise, unified_gradient
from charforge.train.samples import choose, step_batch, study_steps
from charforge.train.schedule import rate_factor
from charforge.train.sft import (
    Hooks,
    adamw,
    held_out,
    train_sft,
)

LORA = lora_config(CONFIG, rank=4, alpha=8)


def quiet() -> Hooks:
    return Hooks(lambda log: None, lambda result, best: None, lambda step: None)


def test_both_ways_of_reading_the_prompt_give_the_same_picture_loss():
    model, pictures = tiny_model(), tiny_data().samples("pictures")
    samples = [pictures[0], pictures[0], pictures[1], model.without_prompt(pictures[2])]
    noise = draw_noise(samples, 3.0, torch.Generator().manual_seed(1))
    packed, count = model.picture_loss(samples, noise, prompt_gradients=True)
    shared, again = model.picture_loss(samples, noise, prompt_gradients=False)
    torch.testing.assert_close(packed, shared, atol=1e-4, rtol=1e-4)
    assert count == again == 16


def test_the_reply_alone_is_supervised():
    sample = tiny_data().samples("dialogues")[0]
    batch = pack([list(sample)], CONFIG)
    assert batch.labels.tolist() == [*sample[2].ids, CONFIG.special_tokens.eos]


def test_packing_does_not_mix_samples():
    model, data = tiny_model(), tiny_data()
    together, count = model.text_loss(data.samples("dialogues")[:3])
    alone = sum(model.text_loss([sample])[0] for sample in data.samples("dialogues")[:3])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert count == 18


def test_losses_are_means_over_tokens_so_repeating_a_batch_changes_nothing():
    model, data = tiny_model(), tiny_data()
    pictures = data.samples("pictures")[:2]
    noise = draw_noise(pictures, 3.0, torch.Generator().manual_seed(0))
    doubled = Noise(noise.times.repeat(2), noise.values.repeat(2, 1))
    add_adapter(model.network, LORA, seed=0)
    once = unified_gradient(model, data.samples("dialogues")[:2], pictures, noise, Weights(1, 1), 8)
    twice = unified_gradient(model, data.samples("dialogues")[:2] * 2, pictures * 2, doubled, Weights(1, 1), 8)
    torch.testing.assert_close(once, twice)


def test_every_sample_is_seen_once_an_epoch_in_a_new_order():
    data = tiny_data().samples("dialogues")
    epochs = [[id(s) for step in range(5) for s in choose(data, 1, step + 5 * epoch, seed=3)] for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(id(s) for s in data)
    assert epochs[0] != epochs[1]


def test_the_batch_of_a_step_depends_on_seed_and_step_alone():
    data, settings = tiny_data(), tiny_settings()
    first, second, other = (step_batch(tiny_model(), data, settings, 5, step)[2].values for step in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_rate_warms_up_and_ends_at_a_tenth():
    assert rate_factor(0, 10, 100) == pytest.approx(0.1)
    assert rate_factor(10, 10, 100) == pytest.approx(1)
    assert rate_factor(99, 10, 100) == pytest.approx(0.1, rel=0.01)
    assert rate_factor(0, 0, 1) == pytest.approx(1)


def test_each_expert_has_its_own_rate():
    model = tiny_model()
    parameters = add_adapter(model.network, LORA, seed=0)
    settings = tiny_settings(text_learning_rate=1e-4, picture_learning_rate=1e-2)
    text, pictures = adamw(model, parameters, settings).param_groups
    assert (text["highest"], pictures["highest"]) == (1e-4, 1e-2)
    assert len(text["params"]) + len(pictures["params"]) == len(parameters)
    assert len(pictures["params"]) == 2 * 7 * 2


def test_a_fresh_adapter_changes_nothing_and_a_trained_one_does(tmp_path: Path):
    model, data = tiny_model(), tiny_data()
    before = held_out(model, data, tiny_settings())
    parameters = add_adapter(model.network, LORA, seed=0)
    assert held_out(model, data, tiny_settings()) == before
    train_sft(model, parameters, data, tiny_settings(), 0, tmp_path, quiet())
    assert held_out(model, data, tiny_settings()) != before
    with adapter_off(model.network):
        assert held_out(model, data, tiny_settings()) == before


def test_training_lowers_both_losses_on_what_it_sees(tmp_path: Path):
    model, data = tiny_model(), tiny_data()
    seen = changed(data, held_out_texts=data.samples("dialogues"), held_out_pictures=data.samples("pictures"))
    settings = tiny_settings(steps=40, evaluate_every=40, checkpoint_every=40, replay_pictures=0)
    before = held_out(model, seen, settings)
    parameters = add_adapter(model.network, LORA, seed=0)
    train_sft(model, parameters, seen, settings, 0, tmp_path, quiet())
    after = held_out(model, seen, settings)
    assert after[0] < 0.9 * before[0]
    assert after[1] < 0.97 * before[1]


NO_PICTURES = {"pictures": 0, "replay_pictures": 0}
NO_TEXTS = {"dialogues": 0, "knowledge": 0, "looks": 0, "replay_texts": 0}


@pytest.mark.parametrize("empty", [NO_PICTURES, NO_TEXTS])
def test_texts_alone_and_pictures_alone_can_be_trained(tmp_path: Path, empty: dict[str, int]):
    model = tiny_model()
    parameters = add_adapter(model.network, LORA, seed=0)
    before = held_out(model, tiny_data(), tiny_settings())
    train_sft(model, parameters, tiny_data(), tiny_settings(**empty), 0, tmp_path, quiet())
    assert held_out(model, tiny_data(), tiny_settings()) != before


def test_facts_are_studied_before_the_voice():
    data, settings = (
        tiny_data(),
        tiny_settings(steps=6, study_share=0.4, study_knowledge=6, study_looks=0, knowledge=2, looks=0, dialogues=2),
    )
    told = [step_batch(tiny_model(), data, settings, 0, step)[0] for step in range(4)]
    facts = [sum(any(text is fact for fact in data.samples("knowledge")) for text in texts) for texts in told]
    voice = [sum(any(text is said for said in data.samples("dialogues")) for text in texts) for texts in told]
    assert facts == [6, 6, 2, 2] and voice == [0, 0, 2, 2]
    # nothing to study: the voice has all steps
    assert study_steps(changed(data, knowledge=[]), settings) == 0
    told = step_batch(tiny_model(), changed(data, knowledge=[]), settings, 0, 0)[0]
    assert sum(any(text is said for said in data.samples("dialogues")) for text in told) == 2


def test_requests_for_pictures_are_studied_and_come_beside_the_dialogues():
    data, asked = tiny_data(), tiny_data(seed=1).samples("dialogues")
    settings = tiny_settings(steps=6, study_share=0.4, study_knowledge=2, study_requests=3, dialogues=2, requests=1)
    for step in range(6):
        texts, _, _ = step_batch(tiny_model(), changed(data, requests=asked), settings, 0, step)
        assert sum(any(text is one for one in asked) for text in texts) == (1 if step >= 2 else 3)


def test_studying_raises_the_rate_of_texts_alone(tmp_path: Path):
    """AdamW's first step moves every weight by its rate, whatever the gradient."""
    moved = {}
    for rate in (1.0, 4.0):
        model, settings = tiny_model(), tiny_settings(steps=1, study_share=0.9, study_rate=rate, warmup=0)
        parameters = add_adapter(model.network, LORA, seed=0)
        train_sft(model, parameters, tiny_data(), settings, 0, tmp_path / str(rate), quiet())
        moved[rate] = {name: value.abs().max().item() for name, value in parameters.items() if "lora_B" in name}
    for name in moved[1.0]:
        times = 1.0 if "_moe_gen" in name else 4.0
        assert moved[4.0][name] == pytest.approx(times * moved[1.0][name], rel=0.02)


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_a_run_interrupted_at_any_step_ends_in_the_same_bits(tmp_path: Path, stop_at: int):
    settings = tiny_settings(checkpoint_every=2)

    def run(folder: Path, stop: int | None) -> dict[str, torch.Tensor]:
        model = tiny_model()
        parameters = add_adapter(model.network, LORA, seed=0)

        def on_step(log) -> None:
            if log.step == stop:
                raise Stop

        train_sft(model, parameters, tiny_data(), settings, 7, folder, replace(quiet(), on_step=on_step))
        return adapter_state(model.network)

    whole = run(tmp_path / "whole", None)
    with pytest.raises(Stop):
        run(tmp_path / "cut", stop_at)
    continued = run(tmp_path / "cut", None)
    assert all(torch.equal(whole[name], continued[name]) for name in whole)
    best, again = (load_file(tmp_path / name / "best.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(best[name], again[name]) for name in best)


def test_how_often_it_previews_and_saves_changes_no_bit(tmp_path: Path):
    trained = []
    for every in (1, 2, 100):
        model = tiny_model()
        parameters = add_adapter(model.network, LORA, seed=0)
        settings = tiny_settings(preview_every=every, checkpoint_every=every)
        train_sft(model, parameters, tiny_data(), settings, 7, tmp_path / str(every), quiet())
        trained.append(load_file(tmp_path / str(every) / "best.safetensors"))
    assert all(torch.equal(trained[0][name], other[name]) for other in trained[1:] for name in trained[0])


def test_a_run_interrupted_while_it_previews_or_measures_does_that_again_and_ends_in_the_same_bits(tmp_path: Path):
    def run(folder: Path, stop_at: int | None) -> tuple[dict[str, torch.Tensor], list[int], list[int]]:
        model, previews, judged = tiny_model(), [], []
        parameters = add_adapter(model.network, LORA, seed=0)
        stop = Interruption()

        def on_preview(step: int) -> None:
            previews.append(step)
            if step == stop_at:
                # as the second thread does where a preview takes too long
                stop._save()
                raise Stop

        hooks = Hooks(lambda log: None, lambda result, best: judged.append(result.step), on_preview)
        settings = tiny_settings(preview_every=2, evaluate_every=2, checkpoint_every=100)
        train_sft(model, parameters, tiny_data(), settings, 7, folder, hooks, stop=stop)
        return load_file(folder / "best.safetensors"), previews, judged

    whole, _, _ = run(tmp_path / "whole", None)
    with pytest.raises(Stop):
        run(tmp_path / "cut", 4)
    continued, previews, judged = run(tmp_path / "cut", None)
    assert previews == judged == [4, 6]
    assert all(torch.equal(whole[name], continued[name]) for name in whole)


def test_a_best_adapter_of_a_start_that_came_to_no_checkpoint_is_not_kept(tmp_path: Path):
    (tmp_path / "best.safetensors").write_bytes(b"of another start")
    model = tiny_model()
    parameters = add_adapter(model.network, LORA, seed=0)
    train_sft(model, parameters, tiny_data(), tiny_settings(steps=1, evaluate_every=1), 0, tmp_path, quiet())
    load_best(parameters, tmp_path / "best.safetensors")


@pytest.mark.parametrize("damage", [b"", b"\x00" * 40, b"half"])
def test_a_damaged_checkpoint_is_one_sentence_with_its_name(tmp_path: Path, damage: bytes):
    model = tiny_model()
    parameters = add_adapter(model.network, LORA, seed=0)
    for name in ("last", "best"):
        (tmp_path / f"{name}.safetensors").write_bytes(damage)
    with pytest.raises(InputError, match=r"last\.safetensors is damaged .*--restart"):
        train_sft(model, parameters, tiny_data(), tiny_settings(), 0, tmp_path, quiet())
    with pytest.raises(InputError, match=r"best\.safetensors is damaged"):
        load_best(parameters, tmp_path / "best.safetensors")


def test_adapter_files_round_trip_to_the_bit_and_have_peft_names(tmp_path: Path):
    model = tiny_model()
    parameters = add_adapter(model.network, LORA, seed=0)
    for parameter in parameters.values():
        parameter.data.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    save_adapter(model.network, LORA, tmp_path, "tiny")
    other = tiny_model()
    load_adapter(other, tmp_path, torch.float32)
    ours = adapter_state(model.network)
    for one, same in zip(adapted_layers(model.network), adapted_layers(other.network), strict=True):
        (a, b, strength), (other_a, other_b, other_strength) = addition_of(one), addition_of(same)
        assert torch.equal(a, other_a) and torch.equal(b, other_b) and strength == other_strength
    batch = pack([list(sample) for sample in tiny_data().samples("dialogues")], CONFIG)
    assert torch.equal(model.network(batch).logits, other.network(batch).logits)
    assert not torch.equal(tiny_network()(batch).logits, other.network(batch).logits)
    assert all(name.startswith("base_model.model.language_model.model.layers.") for name in ours)
    # seven linears of the understanding expert on four layers, of the generation expert on two
    assert len(ours) == 2 * 7 * (4 + 2)


def test_stock_peft_loads_the_adapter(tmp_path: Path):
    from peft import PeftModel

    model, data = tiny_model(), tiny_data()
    parameters = add_adapter(model.network, LORA, seed=0)
    for parameter in parameters.values():
        parameter.data.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    save_adapter(model.network, LORA, tmp_path, "tiny")
    expected = model.text_loss(data.samples("dialogues"))[0]
    other = tiny_model()
    stock = PeftModel.from_pretrained(other.network, tmp_path)
    other.network = stock.base_model.model
    torch.testing.assert_close(other.text_loss(data.samples("dialogues"))[0], expected)


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path):
    model = tiny_model()
    add_adapter(model.network, LORA, seed=0)
    save_adapter(model.network, LORA, tmp_path, "tiny")
    config = (tmp_path / "adapter_config.json").read_text().replace('"r": 4', '"r": 8')
    (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(InputError, match="does not fit this base"):
        load_adapter(tiny_model(), tmp_path, torch.float32)


@pytest.mark.skipif(not is_int8_right("cpu"), reason="this processor's int8 products overflow: such a base is refused")
def test_an_int8_base_computes_nearly_the_same():
    batch = pack([list(sample) for sample in tiny_data().samples("dialogues")], CONFIG)
    exact = tiny_network()(batch).logits
    model = tiny_network()
    quantize_decoder(model, "int8")
    error = (model(batch).logits - exact).norm() / exact.norm()
    # measured 0.039 in evaluation mode, where activations are rounded to 8 bits as well, as on a GPU
    assert 0 < error < 0.06


def test_an_nf4_base_computes_what_its_rounded_weights_say():
    from bitsandbytes.functional import dequantize_4bit

    batch = pack([list(sample) for sample in tiny_data().samples("dialogues")], CONFIG)
    model, rounded = tiny_network(), tiny_network()
    quantize_decoder(model, "nf4")
    for name, module in model.named_modules():
        if type(module).__name__ == "Linear4bit":
            weight = dequantize_4bit(module.weight.data, module.weight.quant_state).float()
            original = rounded.get_submodule(name).weight
            assert (weight - original).norm() / original.norm() < 0.12
            original.data.copy_(weight)
    expected = rounded(batch).logits
    # the products run in bf16
    assert (model(batch).logits - expected).norm() / expected.norm() < 0.05


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_lora_on_a_quantised_base_gets_gradients_and_one_step_lowers_the_loss(kind: str):
    model, data = tiny_model(), tiny_data()
    quantize_decoder(model.network, kind)
    parameters = add_adapter(model.network, LORA, seed=0)
    optimizer = torch.optim.AdamW(parameters.values(), lr=2e-3)
    texts, pictures = data.samples("dialogues"), data.samples("pictures")
    noise = draw_noise(pictures, 3.0, torch.Generator().manual_seed(0))

    def loss() -> float:
        return sum(unified_gradient(model, texts, pictures, noise, Weights(1, 1), size=8)).item()

    before = loss()
    # A gets no gradient at first because B is zero; every B of a layer that matters does
    touched = [name for name, p in parameters.items() if p.grad is not None and p.grad.abs().max() > 0]
    assert any("_moe_gen" in name for name in touched)
    assert any("_moe_gen" not in name for name in touched)
    optimizer.step()
    assert loss() < before


def test_an_unknown_quantisation_is_refused():
    with pytest.raises(InputError, match="choose one of int8, nf4"):
        quantize_decoder(tiny_network(), "int3")
