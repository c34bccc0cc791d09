"""Quantised layers forward and backward, the adapter's gradients, and sampling against training, on the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from bitsandbytes.nn import Linear8bitLt
from on_device import DTYPES, flat_gradient, in_its_precision, lively, off, tiny_on
from rollouts import rollout_of
from tiny import tiny_data
from tiny_base import grpo_settings
from torch import nn

from charforge.adapter.lora import with_values
from charforge.quantization import is_int8_right, quantised_linear
from charforge.train.grpo import learn_from
from charforge.train.losses import Weights, draw_noise, unified_gradient
from charforge.train.policy_gradient import UpdateStatistics, policy_gradient

WIDTH, OUT, ROWS = 256, 384, 48
LAYER = {"int8": (0.02, 0.03), "nf4": (0.12, 0.12)}
"""Relative error of a layer's output and of its input's gradient: rounding of random weights, the worst case there is.
A matrix of white noise loses 0.7 % in int8 and 9.3 % in nf4; int8 rounds the input as well."""
COSINE = {"fp32": 0.99999, "bf16": 0.995, "int8": 0.98, "nf4": 0.9}
"""Of the adapter's gradient with that in fp32 on the CPU: layers 64 and 128 wide average over few roundings."""


def skip_wrong_products(kind: str, device: str) -> None:
    """Where the processor's 8-bit products overflow there is nothing to be near to: such a base is refused there."""
    if kind == "int8" and not is_int8_right(device):
        pytest.skip("the 8-bit products of this processor overflow")


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("rows", [1, ROWS])
def test_a_quantised_layer_forward_and_backward(real_device: str, kind: str, rows: int) -> None:
    skip_wrong_products(kind, real_device)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(OUT, WIDTH, generator=generator) * WIDTH**-0.5
    x, slope = torch.randn(rows, WIDTH, generator=generator), torch.randn(rows, OUT, generator=generator)
    like = nn.Linear(WIDTH, OUT, bias=False).eval()
    layer = quantised_linear(like, weight.bfloat16(), kind, real_device)
    given = x.bfloat16().to(real_device).requires_grad_(True)
    out = layer(given)
    out.backward(slope.bfloat16().to(real_device))
    forward, backward = LAYER[kind]
    assert 0 < off(out, x @ weight.T) < forward
    assert 0 < off(given.grad, slope @ weight) < backward
    assert layer.weight.device.type == real_device and layer.weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_an_eight_bit_layer_says_what_that_of_bitsandbytes_says(
    real_device: str, bias: bool, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    like = nn.Linear(WIDTH, OUT, bias=bias).eval()
    ours = quantised_linear(like, torch.randn(OUT, WIDTH, generator=generator).bfloat16(), "int8", real_device)
    if bias:
        ours.bias = nn.Parameter(torch.randn(OUT, generator=generator).to(real_device, dtype), requires_grad=False)
    x, slope = (torch.randn(3, 5, width, generator=generator).to(real_device, dtype) for width in (WIDTH, OUT))
    given = [x.clone().requires_grad_(True) for _ in range(2)]
    mine, theirs = ours(given[0]), Linear8bitLt.forward(ours, given[1])
    assert torch.equal(mine, theirs)
    mine.backward(slope)
    theirs.backward(slope)
    # ours multiplies the gradient with the scales, theirs the weights: each rounds once
    assert off(given[0].grad, given[1].grad) < (1e-5 if dtype == torch.float32 else 1e-2)


MOST_GRAPHS = 8
"""Texts alone, pictures behind texts that are read, both together; layers with and without a generation expert."""


def adapter_gradient(
    device: str, precision: str, recompute: bool = False, compiled_by: str | None = None
) -> torch.Tensor:
    """Of one step over all kinds of samples, both losses."""
    model, data = tiny_on(device, precision), tiny_data()
    parameters = lively(model)
    if compiled_by:
        model.compile_layers(compiled_by)
    model.recompute_layers = recompute
    texts = data.samples("dialogues") + data.samples("knowledge") + data.samples("looks")
    pictures = data.samples("pictures") + data.samples("replay_pictures")
    noise = draw_noise(pictures, 3.0, torch.Generator().manual_seed(0))
    with model.autocast():
        unified_gradient(model, texts, pictures, noise, Weights(0.25, 1.0), 64)
    return flat_gradient(parameters)


@pytest.mark.parametrize("precision", list(DTYPES))
def test_the_gradients_of_the_adapter_against_fp32(real_device: str, precision: str) -> None:
    skip_wrong_products(precision, real_device)
    ours, expected = adapter_gradient(real_device, precision), adapter_gradient("cpu", "fp32")
    assert torch.cosine_similarity(ours, expected, dim=0) > COSINE[precision]
    assert ours.norm() / expected.norm() == pytest.approx(1, abs=1 - COSINE[precision] + 0.02)


@pytest.mark.slow  # torch's compiler takes its time
@pytest.mark.parametrize("recompute", [False, True])
def test_compiled_layers_have_the_gradients_of_plain_ones(real_device: str, recompute: bool) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    # without a card what is caught is the point, and no minute is spent on code for a processor
    backend = "eager" if real_device == "cpu" else "inductor"
    plain = adapter_gradient(real_device, "fp32", recompute)
    assert off(adapter_gradient(real_device, "fp32", recompute, backend), plain) < 1e-4
    counters = torch._dynamo.utils.counters
    assert not counters["graph_break"], counters["graph_break"]
    assert 0 < counters["stats"]["unique_graphs"] <= MOST_GRAPHS


@pytest.mark.parametrize("recompute", [False, True])
def test_kept_and_recomputed_layers_have_the_gradients_of_the_cpu(device: str, recompute: bool) -> None:
    expected = adapter_gradient("cpu", "fp32")
    assert off(adapter_gradient(device, "fp32", recompute), expected) < 1e-4


GAP = {"fp32": 1e-4, "bf16": 0.05, "int8": 0.05, "nf4": 0.05}


def first_update(device: str, precision: str, moved: bool) -> UpdateStatistics:
    """Sampling with one size of batches, learning with another; ``moved``: old probabilities from weights set aside."""
    model, settings = tiny_on(device, precision), grpo_settings(clip_range=1e-6)
    parameters = learn_from(model, lively(model))
    drew = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    with in_its_precision(model.network):
        rollout, prompts = rollout_of(model, settings)
        gains = torch.randn(8, generator=torch.Generator().manual_seed(0))
        old_policy = partial(with_values, parameters, drew) if moved else None
        told = policy_gradient(model, prompts, rollout, gains, range(2), settings.grpo, 3, old_policy)
    assert flat_gradient(parameters).norm() > 0
    return told


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("precision", list(DTYPES))
def test_the_first_ratio_is_one_and_the_sampling_gap_is_small(
    real_device: str, precision: str, moved: bool, record_property: Callable[[str, object], None]
) -> None:
    told = first_update(real_device, precision, moved)
    record_property("sampling gap", f"{precision}: {told.gaps.abs().mean():.2e}, at most {told.gaps.abs().max():.2e}")
    record_property("ratio", f"{precision}: deviation {told.log_ratio_deviation:.2e}, clipped {told.clipped:.2f}")
    assert told.log_ratio_deviation < 1e-6 and told.clipped == 0
    assert told.gaps.abs().max() < GAP[precision]
