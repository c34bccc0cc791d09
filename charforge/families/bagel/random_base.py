"""A base of random weights, built where it will run and in the precision it will run in.

One linear layer at a time is made in full precision, quantised and put in place: neither the host nor the device ever
holds more than the finished model and one layer's weight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from charforge.errors import InputError
from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.checkpoint import build_empty, set_tensor
from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.layers import grid_position_ids, sincos_table
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.quantize import mark_quantised
from charforge.families.bagel.splits import TextSplit
from charforge.families.bagel.tokenizer import Tokenizer
from charforge.families.bagel.unified import UnifiedBagel
from charforge.quantization import KINDS, quantised_bytes, quantised_linear
from charforge.sample import Target

PRECISIONS = ("bf16", *KINDS)
AUTOENCODER_BYTES = 4


class ArbitraryTokenizer(Tokenizer):
    """Random weights have read nothing: each word becomes one id, arbitrary but always the same."""

    def __init__(self, config: BagelConfig) -> None:
        self.chat_roles = config.chat_roles
        special = config.special_tokens
        taken = {special.bos, special.eos, special.image_start, special.image_end}
        self._ids = [index for index in range(min(config.vocab_size, 10_000)) if index not in taken]

    def encode(self, text: str) -> list[int]:
        return [self._ids[int.from_bytes(_digest(word)) % len(self._ids)] for word in text.split()]

    def decode(self, ids: object) -> str:
        raise NotImplementedError("a base of random weights says nothing worth reading")


def _digest(word: str) -> bytes:
    return hashlib.sha256(word.encode()).digest()[:8]


def random_model(
    config: BagelConfig, precision: str, dtype: torch.dtype, device: str, report: Callable[[int, int], None],
    seed: int = 0,
) -> UnifiedBagel:  # fmt: skip
    """Build ``config`` on ``device`` in ``precision`` (bf16, int8, nf4), frozen; what is not quantised is ``dtype``.

    ``report(done, of)`` counts parts. Raises InputError for an unknown precision and torch.OutOfMemoryError where the
    weights do not fit.
    """
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}: choose one of {', '.join(PRECISIONS)}")
    kind = precision if precision in KINDS else None
    network = build_empty(config)
    generator = torch.Generator(device).manual_seed(seed)
    parts = list(_parts(network))
    for done, (path, part) in enumerate(parts):
        if path.startswith("language_model.model.layers.") and kind:
            _fill_quantized(part, kind, dtype, generator)
        _fill(part, path, dtype, generator)
        report(done + 1, len(parts) + 1)
    if kind:
        mark_quantised(network, kind)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        autoencoder = Autoencoder(config.autoencoder).eval().requires_grad_(False)
    report(len(parts) + 1, len(parts) + 1)
    return UnifiedBagel(network.eval(), autoencoder, ArbitraryTokenizer(config))


def _parts(model: BagelModel) -> Iterator[tuple[str, nn.Module]]:
    """Every parameter's owner once: the decoder layer by layer, everything else by the module that holds it."""
    for index, layer in enumerate(model.language_model.model.layers):
        yield f"language_model.model.layers.{index}", layer
    for path, module in model.named_modules():
        own = any(True for _ in module.parameters(recurse=False))
        if own and not path.startswith("language_model.model.layers."):
            yield path, module


@torch.no_grad()
def _fill(part: nn.Module, path: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    """Give every parameter of ``part`` that is still on the meta device its random value."""
    for name, meta in list(part.named_parameters()):
        if meta.is_meta:
            set_tensor(part, name, random_value(f"{path}.{name}", meta, dtype, generator))


@torch.no_grad()
def _fill_quantized(layer: nn.Module, kind: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    """Fill and quantise the linears of one decoder layer, each before the next is made."""
    for name, module in list(layer.named_modules()):
        if isinstance(module, nn.Linear):
            _fill(module, name, dtype, generator)
            path, _, leaf = name.rpartition(".")
            # through the host, as a checkpoint's weights come
            quantised = quantised_linear(module, module.weight.data.cpu(), kind, module.weight.device)
            if module.bias is not None:
                quantised.bias = nn.Parameter(module.bias.data, requires_grad=False)
            setattr(layer.get_submodule(path), leaf, quantised)


def random_value(name: str, meta: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """A value for the parameter ``name`` on the generator's device, of the scale of trained weights.

    Matrices keep the size of what passes through them (deviation fan_in^-0.5), norms are near 1, biases small, and
    position tables are the real ones: activations then stay of order one through any number of layers.
    """
    device = generator.device
    if name.endswith("pos_embed"):
        side = round(meta.shape[0] ** 0.5)
        return sincos_table(side, meta.shape[1]).to(device, dtype)
    value = torch.empty(meta.shape, dtype=dtype, device=device).normal_(generator=generator)
    if meta.ndim > 1:
        return value.mul_(meta.shape[-1] ** -0.5)
    return value.mul_(0.1).add_(1) if "norm" in name else value.mul_(0.1)


def weight_bytes(config: BagelConfig, precision: str, dtype: torch.dtype) -> int:
    """Bytes of the finished base, from shapes alone: the decoder's linears quantised, the autoencoder in fp32."""
    model = build_empty(config)
    full = dtype.itemsize
    total = sum(parameter.numel() for parameter in model.parameters()) * full
    if precision in KINDS:
        for layer in model.language_model.model.layers:
            for module in layer.modules():
                if isinstance(module, nn.Linear):
                    total += quantised_bytes(module, precision) - module.weight.numel() * full
    with torch.device("meta"):
        autoencoder = Autoencoder(config.autoencoder)
    return total + AUTOENCODER_BYTES * sum(parameter.numel() for parameter in autoencoder.parameters())


def random_text(
    config: BagelConfig, tokens: int, generator: torch.Generator | None = None, loss: bool = False
) -> TextSplit:
    """So many tokens with their markers; without a generator all ids are the same."""
    if generator is None:
        return TextSplit((7,) * (tokens - 2), loss)
    special = config.special_tokens
    markers = torch.tensor([special.bos, special.eos, special.image_start, special.image_end])
    plain = torch.arange(config.vocab_size)
    plain = plain[~torch.isin(plain, markers)]
    return TextSplit(tuple(plain[torch.randint(len(plain), (tokens - 2,), generator=generator)].tolist()), loss)


def random_target(config: BagelConfig, tokens: int, generator: torch.Generator | None = None) -> Target:
    """So many latent tokens, in a square where they make one; zeros without a generator."""
    shape = (tokens, config.latent_token_size)
    x0 = torch.zeros(shape) if generator is None else torch.randn(shape, generator=generator)
    side = round(tokens**0.5)
    if side * side != tokens:
        return Target(x0, torch.arange(tokens) % config.max_latent_size**2)
    return Target(x0, grid_position_ids(side, side, config.max_latent_size, config.interpolate_positions))
