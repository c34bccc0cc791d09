"""What is traded for memory changes nothing but time: pieces, layers computed twice, chunks of logits, parked encoders,
8-bit moments; and what happens when a GPU's memory ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from official import quantize_decoder
from rollouts import lively, rollout_of
from tiny import CONFIG, tiny_data, tiny_model, tiny_settings
from tiny_base import grpo_settings, tiny_base

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import use_picture_sizes
from charforge.cost.live import LiveBytes
from charforge.errors import InputError, MachineError
from charforge.families.bagel.images import look_split
from charforge.families.bagel.packing import pack
from charforge.families.bagel.splits import TextSplit
from charforge.pixels import to_image
from charforge.settings import GrpoSettings, MemorySettings, PictureSettings, Settings
from charforge.train.forward_process import forward_process_gradient
from charforge.train.losses import Weights, draw_noise, unified_gradient
from charforge.train.matching import matching_gradient
from charforge.train.memory import Memory, memory_of_second_stage
from charforge.train.noised import noised_again
from charforge.train.policy_gradient import policy_gradient
from charforge.train.sft import Hooks, train_sft

LORA = lora_config(CONFIG, rank=4, alpha=8)


def quiet() -> Hooks:
    return Hooks(lambda log: None, lambda result, best: None, lambda step: None)


def gradient(size: int = 64, chunk: int = 1024, checkpointing: bool = False) -> tuple[torch.Tensor, float, float]:
    """Of one step over all kinds of samples, with an adapter that acts."""
    model, data = tiny_model(), tiny_data()
    parameters = add_adapter(model.network, LORA, seed=0)
    for number, parameter in enumerate(parameters.values()):
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.05
    model.recompute_layers = checkpointing
    texts = data.samples("dialogues") + data.samples("knowledge") + data.samples("looks")
    pictures = data.samples("pictures") + data.samples("replay_pictures")
    noise = draw_noise(pictures, 3.0, torch.Generator().manual_seed(0))
    ce, mse = unified_gradient(model, texts, pictures, noise, Weights(0.25, 1.0), size, chunk)
    return torch.cat([p.grad.flatten() for p in parameters.values()]), ce.item(), mse.item()


@pytest.mark.parametrize("how", [{"size": 3}, {"size": 1}, {"chunk": 4}, {"checkpointing": True}])
def test_a_step_in_pieces_is_the_same_step(how: dict):
    whole, ce, mse = gradient()
    pieces, again_ce, again_mse = gradient(**how)
    assert (again_ce, again_mse) == (pytest.approx(ce, rel=1e-5), pytest.approx(mse, rel=1e-5))
    torch.testing.assert_close(pieces, whole, rtol=1e-3, atol=1e-6)
    assert whole.norm() > 0.01


@pytest.mark.parametrize("losses", ["unified", "policy gradient", "matching", "forward process"])
def test_nothing_of_a_piece_is_left_when_the_next_begins(losses: str) -> None:
    # products of bitsandbytes give their inputs back with their graph: 6.5 GiB of a step of 8,192 tokens on an H200
    model = tiny_model()
    parameters = lively(model)
    for layer in model.network.language_model.model.layers:
        layer.register_forward_hook(lambda module, inputs, outputs: (HoldsOn.apply(outputs[0]), *outputs[1:]))
    settings = grpo_settings(group=4, prompts=2)
    rollout, prompts = rollout_of(model, settings)
    gains = torch.linspace(-1, 1, 8)
    latents = torch.randn(8, *model.canvas().shape, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    texts, pictures = [tiny_data().samples("dialogues")[0]] * 4, [tiny_data().samples("pictures")[0]] * 4

    def once(count: int) -> None:
        if losses == "unified":
            noise = draw_noise(pictures[:count], 3.0, torch.Generator().manual_seed(0))
            unified_gradient(model, texts[:count], pictures[:count], noise, Weights(0.25, 1.0), 1)
        elif losses == "policy gradient":
            few = replace(rollout, steps=rollout.steps[:count])
            policy_gradient(model, prompts, few, gains, range(2), settings.grpo, 8)
        else:
            rows = list(range(count))
            owners = [row // 4 for row in rows]
            noised = noised_again(latents, rows, prompts, owners, model.canvas(), settings.grpo, generator)
            if losses == "matching":
                matching_gradient(model, noised, gains, settings.grpo.draws)
            else:
                old = {name: parameter.detach().clone() for name, parameter in parameters.items()}
                size = settings.grpo.draws
                forward_process_gradient(model, noised, gains, settings.grpo, parameters, old, size)

    once(1)
    peaks = []
    for count in (1, 2):
        with LiveBytes() as tally:
            once(count)
        peaks.append(tally.peak)
    assert peaks[1] < 1.2 * peaks[0]


def test_recomputed_layers_keep_as_little_with_eight_bits() -> None:
    # bitsandbytes' own product holds its inputs past the hooks that recomputed layers rely on
    kept = []
    for precision in ("bf16", "int8"):
        model = tiny_model(dtype=torch.bfloat16)
        if precision == "int8":
            quantize_decoder(model.network, "int8")
        lively(model)
        model.recompute_layers = True
        with LiveBytes() as tally, model.autocast():
            loss, _ = model.text_loss(tiny_data().samples("dialogues") * 8)
        assert loss.requires_grad
        kept.append(tally.now)
    assert kept[1] < 1.1 * kept[0]


class HoldsOn(torch.autograd.Function):
    """Keeps a copy of its input as long as its graph is there, and much of it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.held = x.repeat(200, 1)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0]


def test_recomputed_layers_keep_less():
    def kept(checkpointing: bool) -> int:
        model, data = tiny_model(), tiny_data()
        add_adapter(model.network, LORA, seed=0)
        model.recompute_layers = checkpointing
        sizes: dict[int, int] = {}

        def pack_hook(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
            loss, _ = model.text_loss(data.samples("dialogues"))
        assert loss.requires_grad
        return sum(sizes.values())

    assert kept(True) < 0.5 * kept(False)


# when it does not fit


def test_what_does_not_fit_goes_down_notch_by_notch_and_the_result_is_the_same(tmp_path: Path):
    model, parameter = tiny_model(), torch.nn.Parameter(torch.zeros(1))
    told: list[str] = []
    memory = Memory(model, MemorySettings(micro_batch=8), told.append, tmp_path / "memory.json")

    def work(size: int) -> int:
        (parameter * 3).sum().backward()
        if size > 2 or not memory.checkpoint_layers:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total")
        return size

    with pytest.raises(MachineError, match="smaller card"):
        # a piece of two never fits here: nothing is left to give up
        Memory(model, MemorySettings(micro_batch=2)).fit(lambda size: work(9), [parameter])
    model.recompute_layers = False
    memory = Memory(model, MemorySettings(micro_batch=8), told.append, tmp_path / "memory.json")
    parameter.grad = None
    assert memory.fit(work, [parameter]) == 1
    # the failed passes left nothing behind
    assert parameter.grad.item() == 3
    assert [line.split("going on with ")[1] for line in told] == [
        "4 samples at a time",
        "2 samples at a time",
        "1 samples at a time",
        "memory.checkpoint_layers = true, slower",
    ]
    assert "CUDA out of memory" in told[0] and "Tried" not in told[0]
    model.recompute_layers = False
    again = Memory(model, MemorySettings(micro_batch=8), told.append, tmp_path / "memory.json")
    assert (again.micro_batch, again.checkpoint_layers) == (1, True)


def test_a_run_that_runs_out_of_memory_ends_where_one_that_does_not_ends(tmp_path: Path, monkeypatch):
    def trained(folder: Path, most: int) -> dict[str, torch.Tensor]:
        model = tiny_model()
        parameters = add_adapter(model.network, LORA, seed=0)
        network = type(model.network)
        forward = network.forward

        def short_of_memory(self, batch, *rest, **more):
            if torch.is_grad_enabled() and batch.layout.joint.rows > most:
                raise torch.OutOfMemoryError("pretend")
            return forward(self, batch, *rest, **more)

        monkeypatch.setattr(network, "forward", short_of_memory)
        train_sft(model, parameters, tiny_data(), tiny_settings(steps=3), 0, folder, quiet())
        monkeypatch.undo()
        return {name: parameter.detach().clone() for name, parameter in parameters.items()}

    roomy, tight = trained(tmp_path / "a", 100), trained(tmp_path / "b", 2)
    for name, value in roomy.items():
        torch.testing.assert_close(tight[name], value, rtol=1e-3, atol=2e-5)


# encoders


def test_a_picture_seen_once_is_the_picture():
    model = tiny_model()
    image = to_image(torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    once, text = model.look(image), TextSplit((7, 8, 9), loss=True)
    looks = (look_split(image, CONFIG), once)
    fresh, cached = (model.network(pack([[one, text]], CONFIG)).logits for one in looks)
    torch.testing.assert_close(cached, fresh)
    without_patches = pack([[once, text]], CONFIG)
    assert without_patches.features is not None and without_patches.features.shape == (16, 128)


def test_the_second_stage_has_a_size_of_its_own_and_remembers_where_the_first_ended(tmp_path: Path):
    settings = Settings(memory=MemorySettings(micro_batch=8), grpo=GrpoSettings(micro_batch=4))
    model, file = tiny_model(), tmp_path / "memory.json"
    assert memory_of_second_stage(model, settings, file=file).micro_batch == 4
    file.write_text('{"micro_batch": 2, "checkpoint_layers": true}')
    later = memory_of_second_stage(model, settings, file=file)
    assert (later.micro_batch, later.checkpoint_layers) == (2, True)


def test_sizes_that_a_base_cannot_draw_are_refused():
    base = use_picture_sizes(tiny_base(), PictureSettings(draw_side=16, draw_steps=3))
    sampling = base.model.shapes.sampling
    assert (sampling.height, sampling.width, sampling.steps) == (16, 16, 3)
    for side in (18, 64):
        with pytest.raises(InputError, match="multiples of 4 up to 16"):
            use_picture_sizes(tiny_base(), PictureSettings(draw_side=side))


# the optimiser


@pytest.mark.parametrize("kind", ["adamw8bit", "paged_adamw8bit"])
def test_eight_bit_moments_train_and_resume_to_the_bit(kind: str, tmp_path: Path):
    # 8-bit moments begin at 4096 values a tensor: a larger adapter than elsewhere
    settings, how = tiny_settings(steps=6), MemorySettings(optimizer=kind)  # type: ignore[arg-type]

    def run(folder: Path, stop: int | None = None) -> dict[str, torch.Tensor]:
        model = tiny_model()
        parameters = add_adapter(model.network, lora_config(CONFIG, rank=48, alpha=8), seed=0)

        def on_step(log) -> None:
            if log.step == stop:
                raise KeyboardInterrupt

        hooks = Hooks(on_step, lambda result, best: None, lambda step: None)
        try:
            train_sft(model, parameters, tiny_data(), settings, 0, folder, hooks, Memory(model, how))
        except KeyboardInterrupt:
            assert stop is not None
        return {name: parameter.detach().clone() for name, parameter in parameters.items()}

    whole = run(tmp_path / "whole")
    run(tmp_path / "cut", stop=4)
    resumed = run(tmp_path / "cut")
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert max(value.abs().max() for name, value in whole.items() if "lora_B" in name) > 0
