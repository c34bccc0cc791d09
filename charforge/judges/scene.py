"""Does the picture show what was asked for? The bare base looks and answers; what counts is how sure it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from charforge.expand.scenes import Scene
from charforge.families.protocol import Conditioning, UnifiedModel
from charforge.low_rank import adapter_off
from charforge.sample import Part, Sample

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


@torch.no_grad()
def answer_probabilities(model: UnifiedModel, looks: Sequence[Part], asked: Sequence[tuple[int, str]]) -> Tensor:
    """P(yes) against no for each (picture index, question), by the base without its adapter; (questions,)."""
    answers = torch.zeros(len(asked))
    with adapter_off(model.network), model.autocast():
        for some in shares([look.length for look in looks]):
            seen = model.read([(look,) for look in looks[some.start : some.stop]])
            mine = [index for index, (row, _) in enumerate(asked) if row in some]
            for part in shares([seen.tokens] * len(mine)):
                chosen = [mine[k] for k in part]
                rows = seen.select([asked[index][0] - some.start for index in chosen])
                answers[chosen] = _yes_against_no(model, rows, [asked[index][1] for index in chosen])
    return answers


def _yes_against_no(model: UnifiedModel, seen: Conditioning, questions: list[str]) -> Tensor:
    rows: list[Sample] = [(model.text(question, "user"),) for question in questions]
    words = [model.reply_tokens(word)[0] for word in ("Yes.", "No.")]
    return model.reply_logits(rows, seen)[:, words].softmax(-1)[:, 0].cpu()


def scene_reward(model: UnifiedModel, pictures: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Mean over a scene's checks of P(expected answer), one scene a picture; (rows,) in [0, 1]."""
    asked = [(row, check) for row, scene in enumerate(scenes) for check in scene.checks]
    yes = answer_probabilities(model, model.look_at(pictures).parts, [(row, check.question) for row, check in asked])
    expected = torch.tensor([check.answer for _, check in asked])
    right = torch.where(expected, yes, 1 - yes)
    rows = torch.tensor([row for row, _ in asked])
    total = torch.zeros(len(scenes)).index_add(0, rows, right)
    return total / torch.zeros(len(scenes)).index_add(0, rows, torch.ones(len(asked)))


def _likelihoods(model: UnifiedModel, seen: Conditioning, asked: Sequence[tuple[str, str]]) -> list[Tensor]:
    """Log-likelihood of each answer after its question, one a row of ``seen``."""
    rows: list[Sample] = [
        (model.text(question, "user"), model.text(option, "assistant", loss=True)) for question, option in asked
    ]
    return [values[model.reply_prefix() :].sum() for values in model.log_likelihoods(rows, seen)]


@torch.no_grad()
def keyed_probabilities(model: UnifiedModel, pictures: Tensor, scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """P(right answer) among the options of the scenes' open questions by kind: the judge that no reward asks.

    By the likelihoods that the base without its adapter gives the options. Kinds map to one value a picture, nan
    where the scene does not ask.
    """
    asked = [(row, check) for row, scene in enumerate(scenes) for check in scene.keyed]
    rows = [(row, check.question, option) for row, check in asked for option in check.options]
    looks = model.look_at(pictures).parts
    scores: list[Tensor] = []
    with adapter_off(model.network), model.autocast():
        for some in shares([look.length for look in looks]):
            seen = model.read([(look,) for look in looks[some.start : some.stop]])
            mine = [line for line in rows if line[0] in some]
            for part in shares([seen.tokens] * len(mine)):
                lines = mine[part.start : part.stop]
                chosen = seen.select([row - some.start for row, _, _ in lines])
                scores += _likelihoods(model, chosen, [(question, option) for _, question, option in lines])
    found: dict[str, Tensor] = {}
    for row, check in asked:
        options, scores = torch.stack(scores[: len(check.options)]), scores[len(check.options) :]
        values = found.setdefault(check.kind, torch.full((len(scenes),), torch.nan))
        values[row] = options.softmax(0)[check.right]
    return found
