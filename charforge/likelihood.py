"""How likely a base finds a text, and how probable each answer to a question is: without generating anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charforge.families.protocol import UnifiedModel
from charforge.families.results import Conditioning
from charforge.sample import Sample, portions

NOT_ASKED = "Go on."
"""What stands instead of a question to learn how likely an answer is by itself."""
CACHED_TOKENS = 16_384
"""Of what was read before the questions, in memory at a time: with the 7B base each token takes 56 KiB."""


def mean_log_likelihood(model: UnifiedModel, sample: Sample) -> float:
    """Mean log-likelihood in nats per supervised token of one sample; its last item should have loss."""
    with model.autocast():
        return model.log_likelihoods([sample])[0].mean().item()


@dataclass(frozen=True)
class Question:
    """``text`` asked after number ``after`` of what was read, and the answers to choose from.

    With ``first_word`` the first token of each answer is all that counts, as for yes and no, and all answers together
    cost one row of a pass.
    """

    after: int
    text: str
    answers: tuple[str, ...]
    first_word: bool = False


Likelihoods = list[Tensor]
"""Of each answer to one question: log-likelihoods in nats (tokens,) of its words and its end, on the CPU."""


@torch.no_grad()
def answer_likelihoods(
    model: UnifiedModel, before: Sequence[Sample], questions: Sequence[Question]
) -> list[Likelihoods]:
    """How probable the answers to each question are as the assistant's reply, with the adapter as it is.

    ``before`` are pictures or texts, as many parts in each, of which every one is read once for all its questions.
    """
    found: dict[int, Likelihoods] = {}
    with model.autocast():
        for some in portions([sum(part.length for part in sample) for sample in before], CACHED_TOKENS):
            read = model.read(before[some.start : some.stop])
            mine = [number for number, question in enumerate(questions) if question.after in some]
            for ask, chosen in (
                (_first_words, [number for number in mine if questions[number].first_word]),
                (_whole_answers, [number for number in mine if not questions[number].first_word]),
            ):
                rows = [1 if questions[number].first_word else len(questions[number].answers) for number in chosen]
                for part in portions([read.tokens * count for count in rows], CACHED_TOKENS):
                    numbers = chosen[part.start : part.stop]
                    asked = [questions[number] for number in numbers]
                    after = read.select([question.after - some.start for question in asked])
                    found.update(zip(numbers, ask(model, after, asked), strict=True))
    return [found[number] for number in range(len(questions))]


def probabilities(likelihoods: Likelihoods) -> Tensor:
    """(answers,): how probable each answer is if one of them is given."""
    return torch.stack([tokens.sum() for tokens in likelihoods]).softmax(0)


def _first_words(model: UnifiedModel, after: Conditioning, questions: Sequence[Question]) -> list[Likelihoods]:
    logits = model.reply_logits([(model.text(question.text, "user"),) for question in questions], after)
    return [
        [row[model.reply_tokens(answer)[:1]] for answer in question.answers]
        for row, question in zip(logits.log_softmax(-1).cpu(), questions, strict=True)
    ]


def _whole_answers(model: UnifiedModel, after: Conditioning, questions: Sequence[Question]) -> list[Likelihoods]:
    # a question is read once for all its answers
    asked = model.read([(model.text(question.text, "user"),) for question in questions], after)
    owners = [number for number, question in enumerate(questions) for _ in question.answers]
    replies = [(model.text(answer, "assistant", loss=True),) for question in questions for answer in question.answers]
    said = iter(model.log_likelihoods(replies, asked.select(owners)))
    return [[next(said)[model.reply_prefix() :] for _ in question.answers] for question in questions]
