"""Replies that are decoded side by side, of which one may begin or end at any token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from charforge.families.bagel.context import Context, join_contexts, without_common_gap
from charforge.families.bagel.decode import TextDecoder, begin_text
from charforge.families.bagel.model import BagelModel
from charforge.low_rank import Chosen, chosen_now


class SideBySide:
    """See :class:`charforge.families.results.Speaking`.

    While the rows are the same, a step is that of one decoder. When one comes or goes their keys and values are put
    together anew: a copy, which is small beside the hundred tokens of a reply. The base's products are those of all
    rows, whatever adapters act on them; what is small, the adapters' part, is computed for each adapter.
    """

    def __init__(self, model: BagelModel, prefix: Sequence[int]) -> None:
        self._model, self._prefix = model, tuple(prefix)
        self._decoder: TextDecoder | None = None
        self._logits: Tensor | None = None
        self._left: list[int] = []
        self._acting: list[Chosen | None] = []

    @property
    def rows(self) -> int:
        return len(self._left)

    @property
    def logits(self) -> Tensor:
        if self._logits is None:
            raise ValueError("nobody speaks here")
        return self._logits

    @torch.inference_mode()
    def join(self, conditioning: Context, max_tokens: int) -> None:
        if conditioning.rows != 1:
            raise ValueError(f"one row joins at a time, not {conditioning.rows}")
        decoder, logits = begin_text(self._model, conditioning, self._prefix, max_tokens)
        self._left.append(max_tokens)
        self._acting.append(chosen_now())
        if self._decoder is not None:
            both = join_contexts(self._decoder.context(), decoder.context())
            logits = torch.cat([self.logits, logits])
            decoder = TextDecoder(self._model, both, max(self._left), self._acting)
        self._decoder, self._logits = decoder, logits

    @torch.inference_mode()
    def leave(self, rows: Sequence[int]) -> None:
        stay = [row for row in range(self.rows) if row not in set(rows)]
        self._left = [self._left[row] for row in stay]
        self._acting = [self._acting[row] for row in stay]
        if not stay:
            self._decoder = self._logits = None
        elif rows:
            assert self._decoder is not None
            kept = without_common_gap(self._decoder.context().select(stay), self._model.config)
            self._decoder = TextDecoder(self._model, kept, max(self._left), self._acting)
            self._logits = self.logits[stay]

    def feed(self, tokens: Tensor) -> None:
        if self._decoder is None:
            raise ValueError("nobody speaks here")
        if min(self._left) == 0:
            raise ValueError("the room of a row is used up: it has to leave")
        self._left = [left - 1 for left in self._left]
        self._logits = self._decoder.feed(tokens.to(self._model.device))
