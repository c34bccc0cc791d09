"""The tokens of a pass, as far as they cost: what a family is asked how much it computes for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Tokens:
    """One forward pass: tokens of each stream, supervised positions, and each row's (queries, keys).

    ``understanding_rows`` are the same rows in layers without a generation expert, where latents take no part.
    """

    understanding: int
    latents: int
    supervised: int
    rows: tuple[tuple[int, int], ...]
    understanding_rows: tuple[tuple[int, int], ...]

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.understanding + other.understanding,
            self.latents + other.latents,
            self.supervised + other.supervised,
            self.rows + other.rows,
            self.understanding_rows + other.understanding_rows,
        )


@dataclass(frozen=True)
class Flops:
    """Floating point operations of one forward pass: in frozen linears, in attention, in the adapter."""

    linears: float
    attention: float
    adapter: float


def drawing_tokens(rows: int, latents: int, context: int) -> Tokens:
    """One denoising step of ``rows`` pictures of ``latents`` tokens with ``context`` cached tokens each.

    The two markers around a picture belong to the understanding stream.
    """
    new = latents + 2
    return Tokens(2 * rows, latents * rows, 0, ((new, new + context),) * rows, ((2, 2 + context),) * rows)


def pack_tokens(samples: Iterable[tuple[int, int, int]]) -> Tokens:
    """Samples of one pack, each (understanding tokens, latent tokens, supervised positions)."""
    own = list(samples)
    return Tokens(
        sum(und for und, _, _ in own),
        sum(latents for _, latents, _ in own),
        sum(supervised for _, _, supervised in own),
        tuple((und + latents, und + latents) for und, latents, _ in own),
        tuple((und, und) for und, _, _ in own),
    )
