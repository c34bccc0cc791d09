"""The writer ``self``: the base that will be trained, before it is trained. Needs torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from charforge.bases.base import Base
from charforge.expand.asking import Request
from charforge.expand.kept import Kept
from charforge.expand.pairs import Pair, TextPart
from charforge.families.replies import rows_of
from charforge.likelihood import NOT_ASKED, mean_log_likelihood
from charforge.sample import Picture, Sample
from charforge.sampling import nucleus

BATCH = 16
TEMPERATURE, TOP_P = 0.6, 0.9
LEAST_QUESTION_GAIN = 0.15
"""Nats per token. On `mini` it parts questions that fit from those that do not, with few of the former lost."""
LEAST_PROFILE_GAIN = 0.0


@dataclass
class SelfWriter:
    """Callable as ``authored.Complete``. ``pictures`` are prepared ones by name, for requests that show one."""

    base: Base
    kept: Kept
    pictures: dict[str, Picture]
    seed: int = 0
    on_done: Callable[[int, int], None] = lambda done, of: None

    def __call__(self, requests: Sequence[Request]) -> list[str]:
        """Write what is not kept yet, in batches of requests of the same form."""
        done, missing = 0, self.kept.missing(requests)
        # a batch whose texts are partly kept (the run was cut off) is written again as a whole: same batch, same texts
        unanswered = {self.kept.key(request) for request in missing}
        for batch in batches(list({self.kept.key(request): request for request in requests}.values())):
            if any(self.kept.key(request) in unanswered for request in batch):
                for request, text in zip(batch, self._write(batch), strict=True):
                    self.kept.add(request, text)
                done += sum(self.kept.key(request) in unanswered for request in batch)
                self.on_done(done, len(missing))
        return self.kept.texts(requests)

    @torch.no_grad()
    def _write(self, batch: Sequence[Request]) -> list[str]:
        model = self.base.model
        generator = torch.Generator().manual_seed(self.seed)

        def sample(request: Request) -> Sample:
            shown = (self.pictures[request.image].look,) if request.image is not None else ()
            return (*shown, *(model.text(text, role) for role, text in request.messages))

        with model.autocast():
            read = model.read([sample(request) for request in batch])
            steps = model.reply(
                read,
                lambda logits: nucleus(logits, TEMPERATURE, TOP_P, generator),
                max(request.max_tokens for request in batch),
            )
            ids = rows_of(steps, len(batch))
        return [model.words(row[: request.max_tokens]).strip() for row, request in zip(ids, batch, strict=True)]


def batches(requests: Sequence[Request]) -> list[list[Request]]:
    """At most ``BATCH`` requests each, all of one kind and number of messages; the same requests, the same batches."""

    def form(request: Request) -> tuple[str, int, bool]:
        return request.kind, len(request.messages), request.image is not None

    out = []
    for _, group in groupby(sorted(requests, key=form), key=form):
        alike = list(group)
        out += [alike[start : start + BATCH] for start in range(0, len(alike), BATCH)]
    return out


def likelihood_judge(base: Base) -> Callable[[Sequence[Pair]], list[str | None]]:
    """A judge of authored conversations by the base's own likelihood, adapter off.

    A reply that suits the character is likelier after its profile than without it; an answer is likelier after its
    question than after "Go on.". Where the gain is below ``LEAST_PROFILE_GAIN`` or ``LEAST_QUESTION_GAIN`` nats per
    token, the one contradicts or ignores the other. Invented replies are judged by both, reused ones by the question.
    """

    def judge(pairs: Sequence[Pair]) -> list[str | None]:
        return [_against(base, pair) for pair in pairs]

    return judge


def _against(base: Base, pair: Pair) -> str | None:
    parts = [part for part in pair.parts if isinstance(part, TextPart)]
    if len(parts) != len(pair.parts) or [part.role for part in parts] != ["system", "user", "assistant"]:
        return None
    system, question, answer = (base.model.text(part.text, part.role, part.loss) for part in parts)
    alone = mean_log_likelihood(base.model, (question, answer))
    anything = mean_log_likelihood(base.model, (base.model.text(NOT_ASKED, "user"), answer))
    if alone - anything < LEAST_QUESTION_GAIN:
        return "question does not fit the answer"
    if not pair.source and mean_log_likelihood(base.model, (system, question, answer)) - alone < LEAST_PROFILE_GAIN:
        return "contradicts the profile"
    return None
