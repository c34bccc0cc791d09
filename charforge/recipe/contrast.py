"""Pictures that differ in one word: what teaches the generation expert to read it.

Near pure noise a picture can only be known from its caption, but of the error there nearly everything is noise, place
and character, and what the name of a small thing explains drowns in it (docs/log.md: things stayed unread for 218
thousand samples). Two captions that differ in one word before the *same* noisy tokens leave only that word: the
difference of the two velocities should be the difference of the two pictures.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from charforge.families.bagel.context import (
    Context,
    NoisedBlock,
    empty_context,
    extend_context,
    prepare_block,
    velocity,
)
from charforge.families.bagel.layers import grid_position_ids
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.splits import TextSplit
from charforge.families.bagel.tokenizer import Tokenizer
from charforge.files import write_atomic, write_atomic_with
from charforge.flow import interpolate
from charforge.recipe import captions, world
from charforge.recipe.autoencoder import encode_all, load_trained, standard_tokens
from charforge.recipe.dataset import SIZE
from charforge.recipe.drawing import Box, box_tokens, draw
from charforge.recipe.stages import require
from charforge.recipe.world import Look, random_look

Attribute = Literal["thing", "top", "mouth", "eyes"]
SHARES: dict[Attribute, float] = {"thing": 0.55, "top": 0.25, "mouth": 0.1, "eyes": 0.1}
"""How often pairs differ in what: most in what is read worst."""
COMPLETENESS = 0.2
"""Of the captions of a pair, see ``captions.caption``: what is learned from short ones is read in long ones nearly as
well (docs/log.md), and their keys and values fit in memory."""
READ_AT_ONCE = 16
CHUNK = 64
THING_BOXES: dict[str, tuple[Box, ...]] = {
    "beside": ((0, 80, 32, 48), (96, 80, 32, 48)),
    "holding": ((16, 80, 96, 32),),
}
TOPS, SPROUT_TOPS = {"top": 16, "eyes": 48, "mouth": 64}, {"top": 48, "eyes": 80, "mouth": 80}
"""Where the windows of heads and faces begin, in pixels from above: as measured on latents."""


@dataclass(frozen=True)
class Contrast:
    """Two looks that differ in one attribute alone."""

    attribute: Attribute
    one: Look
    other: Look


def random_contrast(rng: random.Random) -> Contrast:
    """A pair whose difference can be seen and said."""
    attribute: Attribute = rng.choices(list(SHARES), list(SHARES.values()))[0]
    while True:
        look = random_look(rng)
        if attribute == "thing":
            look = replace(look, side=rng.choice(["holding", "beside"]))
        if (attribute == "top" and look.kind == "person") or (attribute == "eyes" and captions.hides_eyes(look)):
            continue
        one, other = rng.sample(list(_words(attribute, look)), 2)
        return Contrast(attribute, _change(look, attribute, one), _change(look, attribute, other))


def _change(look: Look, attribute: Attribute, value: str) -> Look:
    return Look(**(asdict(look) | {attribute: value}))


def _words(attribute: Attribute, look: Look) -> dict[str, str]:
    if attribute == "thing":
        return world.THINGS
    if look.kind == "person":
        return world.PERSON_MOUTHS if attribute == "mouth" else world.PERSON_EYES
    creature = {"top": world.CREATURE_TOPS, "mouth": world.CREATURE_MOUTHS, "eyes": world.CREATURE_EYES}
    return creature[attribute][look.kind]


def word_pair(pair: Contrast, rng: random.Random, completeness: float) -> tuple[str, str]:
    """A caption of each look, the same but for the attribute."""
    while True:
        seed = rng.random()
        one, other = (captions.caption(look, random.Random(seed), completeness) for look in (pair.one, pair.other))
        if one != other:
            return one, other


def window(pair: Contrast, side: int) -> list[int]:
    """The tokens in which nearly all of the pair's difference is, as many for every pair.

    A thing's are those of both its places: a caption seldom tells which.
    """
    if pair.attribute == "thing":
        boxes = THING_BOXES[pair.one.side]
    else:
        top = (SPROUT_TOPS if pair.one.kind == "sprout" else TOPS)[pair.attribute]
        boxes = ((32, top, 64, 48),)
    return [token for box in boxes for token in box_tokens(box, side)]


def make_contrasts(
    out: Path, count: int, seed: int, report: Callable[[int], None], device: str = "cpu", processes: int = 1
) -> None:
    """Draw ``count`` pairs with ``processes`` and encode them on ``device``; ``report`` is called with how many are
    done.

    Writes ``data/contrasts.npy``, raw latents (2 count, z, h, w) of one and other in turn, and ``contrasts.jsonl``.
    """
    rng, autoencoder = random.Random(f"contrasts {seed}"), load_trained(out / "autoencoder")
    pairs = [random_contrast(rng) for _ in range(count)]
    chunks = [pairs[start : start + CHUNK] for start in range(0, count, CHUNK)]
    latents, done = [], 0
    with ProcessPoolExecutor(processes) as pool:
        for chunk, shown in zip(chunks, pool.map(_draw_pairs, chunks), strict=True):
            latents.append(encode_all(autoencoder, shown, device))
            report(done := done + len(chunk))
    encoded = np.concatenate(latents)
    write_atomic_with(out / "data" / "contrasts.npy", lambda path: _save(path, encoded))
    lines = [json.dumps({"attribute": p.attribute, "one": asdict(p.one), "other": asdict(p.other)}) for p in pairs]
    write_atomic(out / "data" / "contrasts.jsonl", "\n".join(lines) + "\n")


def _draw_pairs(pairs: list[Contrast]) -> np.ndarray:
    return np.stack([np.asarray(draw(look, SIZE)) for pair in pairs for look in (pair.one, pair.other)])


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)


@dataclass(frozen=True)
class Contrasts:
    """Pairs to train on: standardised latent tokens (pairs, 2, tokens, values) as float16, the tokens (pairs, window)
    in which each can differ, and both captions: as the frozen language model reads them, or tokenised, to be read in
    every step."""

    tokens: np.ndarray
    windows: Tensor
    captions: Sequence[tuple[Context | TextSplit, Context | TextSplit]]


def read_contrasts(out: Path, model: BagelModel, tokenizer: Tokenizer, report: Callable[[int, int], None]) -> Contrasts:
    """What :func:`make_contrasts` left in ``out``, its captions read by ``model`` where that is on a CPU.

    That takes some minutes; ``report`` is called with how many captions are read, and of how many. A GPU reads a
    batch of captions sooner than it gathers the thousands of pieces that were kept of them.

    Raises InputError when :func:`make_contrasts` has not run.
    """
    file = require(out / "data" / "contrasts.jsonl", "contrasts")
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    pairs = [Contrast(line["attribute"], Look(**line["one"]), Look(**line["other"])) for line in lines]
    tokens = standard_tokens(np.load(out / "data" / "contrasts.npy"), model.config)
    rng = random.Random("words of contrasts")
    said = [tokenizer.text(caption) for pair in pairs for caption in word_pair(pair, rng, COMPLETENESS)]
    read: Sequence[Context | TextSplit] = said
    if model.device.type == "cpu":
        read = read_captions(model, said, report)
    windows = torch.tensor([window(pair, math.isqrt(tokens.shape[1])) for pair in pairs])
    both = list(zip(read[::2], read[1::2], strict=True))
    return Contrasts(tokens.reshape(len(pairs), 2, *tokens.shape[1:]), windows, both)


@torch.no_grad()
def read_captions(model: BagelModel, captions: list[TextSplit], report: Callable[[int, int], None]) -> list[Context]:
    """Keys and values of each caption on its own, as float16: the model that reads is frozen, so once is enough."""
    found: list[Context | None] = [None] * len(captions)
    # captions of one length need no padding beside each other
    order = sorted(range(len(captions)), key=lambda index: len(captions[index].ids))
    for start in range(0, len(order), READ_AT_ONCE):
        rows = order[start : start + READ_AT_ONCE]
        context = extend_context(model, empty_context(len(rows)), [captions[row] for row in rows])
        assert context.cache is not None
        for row, index in enumerate(rows):
            length = context.positions[row]
            cache = [(k[row, :length].half().clone(), v[row, :length].half().clone()) for k, v in context.cache]
            real = torch.ones(length, dtype=torch.bool)
            found[index] = Context(cache, real, real, (length,))
        report(min(len(order), start + READ_AT_ONCE), len(order))
    return [context for context in found if context is not None]


def _stack_captions(contexts: list[Context], like: Tensor) -> Context:
    """Captions that were read alone as rows of one context, padded at the end, of the type and device of ``like``."""
    lengths = [context.positions[0] for context in contexts]
    valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    caches = [context.cache or [] for context in contexts]

    def pad(parts: Sequence[Tensor]) -> Tensor:
        return pad_sequence(list(parts), batch_first=True).to(like)

    cache = [
        (pad([cache[layer][0] for cache in caches]), pad([cache[layer][1] for cache in caches]))
        for layer in range(len(caches[0]))
    ]
    return Context(cache, valid, valid, tuple(lengths))


@torch.no_grad()
def _read_together(model: BagelModel, captions: list[Context | TextSplit]) -> Context:
    texts = [caption for caption in captions if isinstance(caption, TextSplit)]
    if texts:
        return extend_context(model, empty_context(len(texts)), texts)
    read = [caption for caption in captions if isinstance(caption, Context)]
    return _stack_captions(read, model.language_model.model.embed_tokens.weight)


def contrast_loss(
    model: BagelModel, data: Contrasts, count: int, earliest: float, generator: torch.Generator
) -> Tensor:
    """Mean squared error of the difference of two velocities, over ``count`` pairs drawn by ``generator``.

    Both captions stand before the same tokens: noise, and what little of a picture is left at times from ``earliest``
    to 1 is the mean of the two. Only the tokens of the windows go through the model.
    """
    picked = torch.randint(len(data.captions), (count,), generator=generator)
    pairs = [data.captions[pair] for pair in picked.tolist()]
    windows = data.windows[picked]
    shown = torch.from_numpy(data.tokens[picked.numpy()].astype(np.float32))
    one, other = (shown[:, which].gather(1, windows[..., None].expand(-1, -1, shown.shape[-1])) for which in (0, 1))
    t = earliest + (1 - earliest) * torch.rand(count, generator=generator)
    noise = torch.randn(one.shape, generator=generator)
    x_t = interpolate((one + other) / 2, noise, t[:, None].expand(-1, windows.shape[1]))
    context = _read_together(model, [a for a, _ in pairs] + [b for _, b in pairs])
    side = math.isqrt(data.tokens.shape[2])
    positions = grid_position_ids(side, side, model.config.max_latent_size)
    block = prepare_block(model, context, positions[: windows.shape[1]])
    rows = positions[torch.cat([windows, windows])].reshape(-1).to(model.device)
    block = NoisedBlock(replace(block.batch, latent_position_ids=rows), block.context)
    both = velocity(model, block, torch.cat([x_t, x_t]).to(model.device), torch.cat([t, t]).to(model.device)).float()
    # the velocity is noise - x0, and the noise is the same
    return (both[:count] - both[count:] - (other - one).to(model.device)).pow(2).mean()
