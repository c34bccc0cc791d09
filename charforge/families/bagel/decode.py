"""Text decoding: one token a row and step, keys and values in memory that was taken once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from charforge.families.bagel.blocks import Bias, Block, read_decoder, rotation, run_layers
from charforge.families.bagel.context import Context
from charforge.families.bagel.decoder import KeyValue
from charforge.families.bagel.layers import additive, without_autocast
from charforge.families.bagel.model import BagelModel
from charforge.families.replies import rows_of
from charforge.graphs import Graphed
from charforge.low_rank import Chosen

SLOTS = 64
"""Attention reads the cache in pieces of so many entries: its shape changes at every 64th token and at no other."""


class TextDecoder:
    """The model after ``context``, with room for ``room`` more tokens a row. The context itself is not changed.

    The adapter acts as it does when the decoder is made, or on each row what is ``acting`` on it. A step reads nothing
    back from the device.
    """

    def __init__(
        self, model: BagelModel, context: Context, room: int, acting: Sequence[Chosen | None] | None = None
    ) -> None:
        config, device, dtype = model.config, model.device, model.dtype
        self._model, self._decoder = model, read_decoder(model, acting)
        self._begin, self._room, self._taken = context, room, 0
        # layers without a generation expert have seen fewer tokens: no latents
        self._begins = (context.valid.shape[1], context.understanding_valid.shape[1])
        self._kinds = [0 if config.has_generation(index) else 1 for index in range(config.layers)]
        self._cache = [
            _with_room(context, index, self._begins[kind] + room, model) for index, kind in enumerate(self._kinds)
        ]
        self._bias = [_closed(valid, room).to(device, dtype) for valid in (context.valid, context.understanding_valid)]
        positions = torch.arange(max(context.positions) + room, device=device)
        self._turns = rotation(config, positions, dtype)
        self._positions = torch.tensor(context.positions, device=device)
        self._slots = [torch.tensor([begin], device=device) for begin in self._begins]
        self._look_through()

    @torch.inference_mode()
    def feed(self, tokens: Tensor) -> Tensor:
        """Append ``tokens`` (rows,) and return the logits (rows, vocabulary) of what comes next.

        Raises ValueError when the room is used up.
        """
        if self._taken == self._room:
            raise ValueError(f"this decoder has room for {self._room} tokens, and they are fed")
        if any((begin + self._taken) % SLOTS == 0 for begin in self._begins):
            self._look_through()
        self._taken += 1
        return self._step(self._read, tokens)

    def _read(self, tokens: Tensor) -> Tensor:
        """Everything of a step that happens on the device: the same kernels in the same memory from look to look."""
        language, rows = self._model.language_model, tokens.shape[0]
        for bias, slot in zip(self._bias, self._slots, strict=True):
            bias.index_fill_(2, slot, 0)
        cos, sin = (table[self._positions][:, None] for table in self._turns)
        with without_autocast(tokens.device):
            token = Block(language.model.embed_tokens(tokens)[:, None], cos, sin)
            hidden, _ = run_layers(self._decoder, token, None, self._seen_bias, self._remember, rows)
            logits = self._decoder.head(language.model.norm(hidden), 0)[:, 0]
        for counter in (*self._slots, self._positions):
            counter += 1
        return logits

    def context(self) -> Context:
        """All that has been read and fed, as a context of its own."""
        cache = []
        for kept, kind in zip(self._cache, self._kinds, strict=True):
            keys, values = kept[:, :, : self._begins[kind] + self._taken].transpose(1, 2).chunk(2, dim=2)
            cache.append((keys, values))
        both = (self._begin.valid, self._begin.understanding_valid)
        valid, understanding = (F.pad(known, (0, self._taken), value=True) for known in both)
        return Context(cache, valid, understanding, tuple(p + self._taken for p in self._begin.positions))

    def _look_through(self) -> None:
        """Let attention see the pieces of the cache up to and with the one in which the next token lies."""
        ends = [min((begin + self._taken) // SLOTS * SLOTS + SLOTS, begin + self._room) for begin in self._begins]
        self._seen_bias = Bias(*(bias[:, :, :end] for bias, end in zip(self._bias, ends, strict=True)))
        self._seen = []
        for cache, kind in zip(self._cache, self._kinds, strict=True):
            keys, values = cache[:, :, : ends[kind]].chunk(2, dim=1)
            self._seen.append((keys, values))
        self._step = Graphed(self._model.device, self._model.cuda_graphs)

    def _remember(self, index: int, fresh: Tensor) -> KeyValue:
        self._cache[index].index_copy_(2, self._slots[self._kinds[index]], fresh)
        return self._seen[index]


def _with_room(context: Context, index: int, capacity: int, model: BagelModel) -> Tensor:
    """Keys and values of layer ``index`` as (rows, 2 kv_heads, capacity, head_dim), zero where nothing is yet."""
    shape = (context.rows, 2 * model.config.kv_heads, capacity, model.config.head_dim)
    room = torch.zeros(shape, dtype=model.dtype, device=model.device)
    if context.cache is not None:
        both = torch.cat(context.cache[index], dim=2)
        room[:, :, : both.shape[1]] = both.transpose(1, 2)
    return room


def _closed(valid: Tensor, room: int) -> Tensor:
    """The bias (rows, 1, cached + room) that shows every valid cached entry (rows, cached) and none of the room."""
    seen = F.pad(valid, (0, room), value=False)
    return additive(seen, torch.float32)[:, None]


@dataclass(frozen=True)
class Step:
    """One step of decoding: the token of each row, None where the row has ended, and the logits it was chosen by."""

    tokens: tuple[int | None, ...]
    logits: Tensor


def begin_text(
    model: BagelModel, context: Context, prefix: Sequence[int], max_tokens: int
) -> tuple[TextDecoder, Tensor]:
    """A decoder that has been fed bos and ``prefix``, with room for ``max_tokens`` more, and its logits."""
    decoder = TextDecoder(model, context, 1 + len(prefix) + max_tokens)
    for token in (model.config.special_tokens.bos, *prefix):
        logits = decoder.feed(torch.full((context.rows,), token, device=model.device))
    return decoder, logits


def stream_text(
    model: BagelModel,
    context: Context,
    choose: Callable[[Tensor], Tensor],
    max_tokens: int,
    prefix: Sequence[int] = (),
    stop: int | None = None,
) -> Iterator[Step]:
    """Decode after ``context``, step by step: bos (and ``prefix``) are fed first, then each token that was chosen.

    ``choose`` maps logits (rows, vocabulary) to token ids (rows,), best on the CPU: they are read at once. A row ends
    with the end token (``stop``, by default eos), which is not told; the last step, in which all rows have ended, is.
    """
    end = model.config.special_tokens.eos if stop is None else stop
    decoder, logits = begin_text(model, context, prefix, max_tokens)
    done = [False] * context.rows
    for index in range(max_tokens):
        chosen = choose(logits)
        read = chosen.tolist()
        done = [was or token == end for was, token in zip(done, read, strict=True)]
        yield Step(tuple(None if over else token for over, token in zip(done, read, strict=True)), logits)
        if all(done):
            return
        if index + 1 < max_tokens:
            logits = decoder.feed(chosen.to(model.device))


def generate_text(
    model: BagelModel,
    context: Context,
    choose: Callable[[Tensor], Tensor],
    max_tokens: int,
    prefix: Sequence[int] = (),
    stop: int | None = None,
) -> tuple[list[list[int]], list[Tensor]]:
    """What :func:`stream_text` yields, in whole: the ids of each row, and the logits of every step."""
    steps = list(stream_text(model, context, choose, max_tokens, prefix, stop))
    return rows_of(steps, context.rows), [step.logits for step in steps]
