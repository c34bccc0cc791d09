"""The adapter's layer: peft's numbers, with one pass over the base's product."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from torch import Tensor, nn

from charforge.adapter.lora import LoraLinear, add_adapter
from charforge.low_rank import LowRankLinear, adapter_off
from charforge.quantization import quantised_linear

CONFIG = LoraConfig(r=4, lora_alpha=8, target_modules=["0"])


def adapted(kind: str | None, dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, dict[str, nn.Parameter]]:
    """A linear of 64 to 96 with an adapter that does something."""
    torch.manual_seed(0)
    linear = nn.Linear(64, 96)
    if kind is not None:
        base = quantised_linear(linear, linear.weight.data, kind, "cpu")
        base.bias = linear.bias
        linear = base  # type: ignore[assignment]
    network = nn.Sequential(linear.to(dtype) if kind is None else linear)
    parameters = add_adapter(network, CONFIG, 0)
    for parameter in parameters.values():
        parameter.data = torch.randn_like(parameter) / 8
    return network, parameters


def results(network: nn.Sequential, parameters: dict[str, nn.Parameter], x: Tensor) -> list[Tensor]:
    """Output, and gradients of the input and the adapter."""
    x = x.clone().requires_grad_()
    out = network(x)
    grads = torch.autograd.grad((out.float() * torch.linspace(-1, 1, 96)).sum(), [x, *parameters.values()])
    return [out, *grads]


@pytest.mark.parametrize("kind", [None, "int8", "nf4"])
@pytest.mark.parametrize("shape", [(10, 64), (2, 3, 64), (0, 64), (64,)])
def test_it_computes_what_pefts_layer_computes(
    kind: str | None, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, parameters = adapted(kind)
    assert isinstance(network[0], LoraLinear)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours = results(network, parameters, x)
    monkeypatch.setattr(LoraLinear, "forward", Linear.forward)
    for own, theirs in zip(ours, results(network, parameters, x), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_quantised_base_takes_bf16_of_any_shape(kind: str) -> None:
    network, parameters = adapted(kind)
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        whole, rows = results(network, parameters, x), results(network, parameters, x.flatten(0, 1))
    for one, other in zip(whole, rows, strict=True):
        torch.testing.assert_close(one.flatten(0, -2), other.flatten(0, -2), rtol=2e-2, atol=2e-2)


def test_more_than_plain_lora_is_refused() -> None:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["0"], lora_dropout=0.1)
    with pytest.raises(ValueError, match="plain LoRA"):
        add_adapter(nn.Sequential(nn.Linear(64, 96)), config, 0)


def test_under_autocast_it_is_as_near_the_true_sum_as_pefts_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    network, parameters = adapted(None, torch.bfloat16)
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(1)).bfloat16()

    def off(true: list[Tensor]) -> list[float]:
        with torch.autocast("cpu", torch.bfloat16):
            found = results(network, parameters, x)
        return [((a.float() - b).norm() / b.norm()).item() for a, b in zip(found, true, strict=True)]

    whole = network.float()
    true = results(whole, parameters, x.float())
    network[0].base_layer.bfloat16()
    ours = off(true)
    monkeypatch.setattr(LoraLinear, "forward", Linear.forward)
    theirs = off(true)
    assert max(ours) < 0.01
    assert all(own <= 1.2 * other for own, other in zip(ours, theirs, strict=True))


def test_switched_off_it_is_the_bare_base() -> None:
    network, _ = adapted(None)
    x = torch.randn(5, 64)
    with adapter_off(network):
        assert torch.equal(network(x), network[0].base_layer(x))
    assert not torch.equal(network(x), network[0].base_layer(x))


def test_in_use_it_is_to_the_bit_as_in_training() -> None:
    network, parameters = adapted(None, torch.bfloat16)
    a, b = (parameters[f"0.lora_{part}.default.weight"] for part in "AB")
    used = LowRankLinear(network[0].base_layer)
    used.add("wren", (a.detach(), b.detach(), 2.0))
    x = torch.randn(7, 64).bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(used(x), network(x))
    with torch.no_grad():
        # without autocast as well: the adapter is rounded to what the base computes in
        assert torch.equal(used(x), network(x))
