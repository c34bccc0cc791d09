"""Does the picture show what was asked for? The bare base looks and answers; what counts is how sure it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from charforge.adapter.low_rank import adapter_off
from charforge.bases.base import Base
from charforge.bases.prepare import at_work
from charforge.expand.scenes import Scene
from charforge.families.bagel import images
from charforge.families.bagel.context import Context, empty_context, extend_context
from charforge.families.bagel.model import computes_in_bf16
from charforge.families.bagel.packing import pack
from charforge.families.bagel.splits import LookSplit, Split, TextSplit
from charforge.train.losses import select_rows

CACHED_TOKENS = 16_384
"""Of pictures in memory at a time, and of pictures beside questions: with the 7B base each takes 56 KiB."""


def shares(tokens: Sequence[int]) -> Iterator[range]:
    """Consecutive items that together hold at most ``CACHED_TOKENS`` ``tokens``, one item at least."""
    start = held = 0
    for index, count in enumerate(tokens):
        if index > start and held + count > CACHED_TOKENS:
            yield range(start, index)
            start, held = index, 0
        held += count
    if len(tokens) > start:
        yield range(start, len(tokens))


def looks_of(base: Base, pictures: Tensor) -> list[LookSplit]:
    """Pictures (n, 3, H, W) in [-1, 1] as the vision tower takes them: through bytes, as a file would be."""
    return [images.look_split(images.to_image(picture), base.config) for picture in pictures]


@torch.no_grad()
def answer_probabilities(base: Base, looks: Sequence[LookSplit], asked: Sequence[tuple[int, str]]) -> Tensor:
    """P(yes) against no for each (picture index, question), by the base without its adapter; (questions,)."""
    model, answers = base.model, torch.zeros(len(asked))
    with adapter_off(model), torch.autocast(model.device.type, torch.bfloat16, enabled=computes_in_bf16(model)):
        for some in shares([len(look.position_ids) for look in looks]):
            with at_work(base):
                seen = extend_context(model, empty_context(len(some)), list(looks[some.start : some.stop]))
            mine = [index for index, (row, _) in enumerate(asked) if row in some]
            width = seen.valid.shape[1]
            for part in shares([width] * len(mine)):
                chosen = [mine[k] for k in part]
                context = select_rows(seen, [asked[index][0] - some.start for index in chosen])
                answers[chosen] = _yes_against_no(base, context, [asked[index][1] for index in chosen])
    return answers


def _yes_against_no(base: Base, seen: Context, questions: list[str]) -> Tensor:
    tokenizer, prefix = base.tokenizer, len(base.tokenizer.role_prefix("assistant"))
    yes, no = (tokenizer.text(word, "assistant", loss=True) for word in ("Yes.", "No."))
    # what stands before the answer's first word is enough: the last of its positions predicts that word
    begun = TextSplit(yes.ids[:prefix], loss=True)
    splits: list[list[Split]] = [[tokenizer.text(question, "user"), begun] for question in questions]
    past = (seen.valid, seen.understanding_valid)
    batch = pack(splits, base.config, past, seen.positions).to(base.model.device)
    first = torch.arange(len(questions), device=base.model.device) * (prefix + 1) + prefix
    logits = base.model(replace(batch, loss_rows=batch.loss_rows[first]), seen.cache).logits.float()
    return logits[:, [yes.ids[prefix], no.ids[prefix]]].softmax(-1)[:, 0].cpu()


def scene_reward(base: Base, pictures: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Mean over a scene's checks of P(expected answer), one scene a picture; (rows,) in [0, 1]."""
    asked = [(row, check) for row, scene in enumerate(scenes) for check in scene.checks]
    yes = answer_probabilities(base, looks_of(base, pictures), [(row, check.question) for row, check in asked])
    expected = torch.tensor([check.answer for _, check in asked])
    right = torch.where(expected, yes, 1 - yes)
    rows = torch.tensor([row for row, _ in asked])
    total = torch.zeros(len(scenes)).index_add(0, rows, right)
    return total / torch.zeros(len(scenes)).index_add(0, rows, torch.ones(len(asked)))


def _likelihoods(base: Base, seen: Context, asked: Sequence[tuple[str, str]]) -> list[Tensor]:
    """Log-likelihood of each answer after its question, one a row of ``seen``."""
    model, tokenizer = base.model, base.tokenizer
    prefix = len(tokenizer.role_prefix("assistant"))
    answers = [tokenizer.text(option, "assistant", loss=True) for _, option in asked]
    splits: list[list[Split]] = [
        [tokenizer.text(question, "user"), answer] for (question, _), answer in zip(asked, answers, strict=True)
    ]
    batch = pack(splits, model.config, (seen.valid, seen.understanding_valid), seen.positions).to(model.device)
    losses = F.cross_entropy(model(batch, seen.cache).logits.float(), batch.labels, reduction="none")
    return [-piece[prefix:].sum().cpu() for piece in losses.split([len(answer.ids) + 1 for answer in answers])]


@torch.no_grad()
def keyed_probabilities(base: Base, pictures: Tensor, scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """P(right answer) among the options of the scenes' open questions by kind: the judge that no reward asks.

    By the likelihoods that the base without its adapter gives the options. Kinds map to one value a picture, nan
    where the scene does not ask.
    """
    asked = [(row, check) for row, scene in enumerate(scenes) for check in scene.keyed]
    rows = [(row, check.question, option) for row, check in asked for option in check.options]
    looks = looks_of(base, pictures)
    scores: list[Tensor] = []
    model = base.model
    with adapter_off(model), torch.autocast(model.device.type, torch.bfloat16, enabled=computes_in_bf16(model)):
        for some in shares([len(look.position_ids) for look in looks]):
            with at_work(base):
                seen = extend_context(model, empty_context(len(some)), looks[some.start : some.stop])
            mine = [line for line in rows if line[0] in some]
            for part in shares([seen.valid.shape[1]] * len(mine)):
                lines = mine[part.start : part.stop]
                context = select_rows(seen, [row - some.start for row, _, _ in lines])
                scores += _likelihoods(base, context, [(question, option) for _, question, option in lines])
    found: dict[str, Tensor] = {}
    for row, check in asked:
        options, scores = torch.stack(scores[: len(check.options)]), scores[len(check.options) :]
        values = found.setdefault(check.kind, torch.full((len(scenes),), torch.nan))
        values[row] = options.softmax(0)[check.right]
    return found
