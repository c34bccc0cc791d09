"""Does the picture show what was asked for? The bare base looks and answers; what counts is how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from charforge.adapter.lora import adapter_off
from charforge.bagel import images
from charforge.bagel.context import Context, empty_context, extend_context
from charforge.bagel.model import computes_in_bf16
from charforge.bagel.packing import LookSplit, Split, pack
from charforge.bases.base import Base
from charforge.expand.scenes import Scene
from charforge.train.losses import select_rows

ROWS = 192
"""Questions answered at a time."""


def looks_of(base: Base, pictures: Tensor) -> list[LookSplit]:
    """Pictures (n, 3, H, W) in [-1, 1] as the vision tower takes them: through bytes, as a file would be."""
    return [images.look_split(images.to_image(picture), base.config) for picture in pictures]


@torch.no_grad()
def answer_probabilities(base: Base, looks: Sequence[LookSplit], asked: Sequence[tuple[int, str]]) -> Tensor:
    """P(yes) against no for each (picture index, question), by the base without its adapter; (questions,)."""
    model = base.model
    with adapter_off(model), torch.autocast(model.device.type, torch.bfloat16, enabled=computes_in_bf16(model)):
        seen = extend_context(model, empty_context(len(looks)), list(looks))
        parts = [
            _yes_against_no(base, select_rows(seen, [row for row, _ in some]), [question for _, question in some])
            for some in (asked[start : start + ROWS] for start in range(0, len(asked), ROWS))
        ]
    return torch.cat(parts)


def _yes_against_no(base: Base, seen: Context, questions: list[str]) -> Tensor:
    tokenizer, prefix = base.tokenizer, len(base.tokenizer.role_prefix("assistant"))
    yes, no = (tokenizer.text(word, "assistant", loss=True) for word in ("Yes.", "No."))
    splits: list[list[Split]] = [[tokenizer.text(question, "user"), yes] for question in questions]
    past = (seen.valid, seen.understanding_valid)
    batch = pack(splits, base.config, past, seen.positions).to(base.model.device)
    # the one position that predicts the answer's first word
    first = torch.arange(len(questions), device=base.model.device) * (len(yes.ids) + 1) + prefix
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


@torch.no_grad()
def keyed_probabilities(base: Base, pictures: Tensor, scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """P(right answer) among the options of the scenes' open questions by kind: the judge that no reward asks.

    By the likelihoods that the base without its adapter gives the options. Kinds map to one value a picture, nan
    where the scene does not ask.
    """
    model, tokenizer = base.model, base.tokenizer
    prefix = len(tokenizer.role_prefix("assistant"))
    asked = [(row, check) for row, scene in enumerate(scenes) for check in scene.keyed]
    rows = [(row, check.question, option) for row, check in asked for option in check.options]
    scores: list[Tensor] = []
    with adapter_off(model), torch.autocast(model.device.type, torch.bfloat16, enabled=computes_in_bf16(model)):
        seen = extend_context(model, empty_context(len(scenes)), looks_of(base, pictures))
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            context = select_rows(seen, [row for row, _, _ in some])
            answers = [tokenizer.text(option, "assistant", loss=True) for _, _, option in some]
            splits: list[list[Split]] = [
                [tokenizer.text(question, "user"), answer]
                for (_, question, _), answer in zip(some, answers, strict=True)
            ]
            batch = pack(splits, model.config, (context.valid, context.understanding_valid), context.positions)
            batch = batch.to(model.device)
            losses = F.cross_entropy(model(batch, context.cache).logits.float(), batch.labels, reduction="none")
            pieces = losses.split([len(answer.ids) + 1 for answer in answers])
            scores += [-piece[prefix:].sum().cpu() for piece in pieces]
    found: dict[str, Tensor] = {}
    for row, check in asked:
        options, scores = torch.stack(scores[: len(check.options)]), scores[len(check.options) :]
        values = found.setdefault(check.kind, torch.full((len(scenes),), torch.nan))
        values[row] = options.softmax(0)[check.right]
    return found
