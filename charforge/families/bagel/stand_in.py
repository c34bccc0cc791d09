"""A base and an adapter made of shapes: every layer is the real one, its weights take no memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.checkpoint import build_empty
from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.random_base import ArbitraryTokenizer
from charforge.families.bagel.unified import UnifiedBagel
from charforge.families.protocol import Adapt, StandIn
from charforge.quantization import quantised_bytes


class _QuantisedProduct(torch.autograd.Function):
    """Makes and keeps what products do on a card: in 8 bits those of charforge.int8_linear, in 4 bits those of
    bitsandbytes 0.50."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, features: int, kind: str) -> Tensor:
        ctx.features, ctx.kind = features, kind
        ctx.shape, ctx.dtype = x.shape, x.dtype
        # the rounded input and the product in 32 and 16 bits, or the weights unpacked for large inputs; gone when the
        # product is there
        if kind == "int8":
            whole, half = (x.new_empty(*x.shape[:-1], features, dtype=kept) for kept in (torch.int32, torch.float16))
            passing: tuple[Tensor, ...] = (x.to(torch.int8), whole, half)
        else:
            passing = (_unpacked(weight, features, x.shape[-1]),)
        # one number seen as a matrix: the product's work is counted, its weights take no memory
        out = x @ x.new_empty(1, 1).expand(x.shape[-1], features)
        del passing
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = grads
        unpacked = _unpacked(grad, ctx.features, ctx.shape[-1])
        if ctx.kind == "int8":
            # the scales meet the gradient
            grad = grad * grad.new_empty(ctx.features)
        return (grad.to(unpacked.dtype) @ unpacked).to(ctx.dtype), None, None, None


def _unpacked(like: Tensor, rows: int, columns: int) -> Tensor:
    return torch.empty(rows, columns, dtype=torch.bfloat16, device=like.device)


class QuantisedShape(nn.Linear):
    """Stands for a bitsandbytes linear of the same shape."""

    def __init__(self, linear: nn.Linear, kind: str) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        out = _QuantisedProduct.apply(x, self.weight, self.out_features, self.kind)
        return out if self.bias is None else out + self.bias.to(out.dtype)


def without_memory(module: nn.Module, fake: FakeTensorMode, dtype: torch.dtype) -> None:
    """Replace the parameters (on the meta device) by ones without memory on the CPU; adapters stay fp32."""
    with fake:
        for name, parameter in list(module.named_parameters()):
            path, _, leaf = name.rpartition(".")
            adapter = "lora_" in name
            made = torch.empty(parameter.shape, dtype=torch.float32 if adapter else dtype)
            setattr(module.get_submodule(path), leaf, nn.Parameter(made, requires_grad=adapter))


def stand_in(
    config: BagelConfig, precision: str | None, adapt: Adapt, dtype: torch.dtype, fake: FakeTensorMode
) -> StandIn:
    """The model with the adapter of ``adapt`` (fp32 masters); the autoencoder is in fp32."""
    network = build_empty(config)
    size = dtype.itemsize
    weights = sum(parameter.numel() for parameter in network.parameters()) * size
    if precision is not None:
        for layer in network.language_model.model.layers:
            for name, linear in list(layer.named_modules()):
                if isinstance(linear, nn.Linear):
                    path, _, leaf = name.rpartition(".")
                    setattr(layer.get_submodule(path), leaf, QuantisedShape(linear, precision))
                    weights += quantised_bytes(linear, precision) - linear.weight.numel() * size
    tower = sum(parameter.numel() for parameter in network.vit_model.parameters()) * size
    adapter = adapt(network)
    without_memory(network, fake, dtype)
    with torch.device("meta"):
        autoencoder = Autoencoder(config.autoencoder)
    without_memory(autoencoder, fake, torch.float32)
    with fake:
        autoencoder.mean, autoencoder.std = (torch.empty(t.shape) for t in (autoencoder.mean, autoencoder.std))
    autoencoder.requires_grad_(False)
    return StandIn(
        UnifiedBagel(network.eval(), autoencoder, ArbitraryTokenizer(config)),
        weights=weights - tower,
        encoders=tower + 4 * sum(parameter.numel() for parameter in autoencoder.parameters()),
        adapter=4 * sum(parameter.numel() for parameter in adapter.values()),
    )
