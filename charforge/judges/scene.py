"""Does the picture show what was asked for? The base without its adapter looks and answers; what counts is how sure it
is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from charforge.expand.scenes import Scene
from charforge.families.protocol import UnifiedModel
from charforge.likelihood import Likelihoods, Question, answer_likelihoods, probabilities
from charforge.low_rank import adapter_off
from charforge.sample import Part


def scene_reward(model: UnifiedModel, looks: Sequence[Part], scenes: Sequence[Scene]) -> Tensor:
    """Mean over a scene's checks of P(expected answer), one scene a picture; (rows,) in [0, 1]."""
    return _shown(scenes, _answers(model, looks, _yes_no(scenes)))


def judge_scenes(
    model: UnifiedModel, looks: Sequence[Part], scenes: Sequence[Scene]
) -> tuple[Tensor, dict[str, Tensor]]:
    """:func:`scene_reward`, and P(right answer) among the options of the scenes' open questions, by kind: the judge
    that no reward asks. Each picture is read once for both.

    Kinds map to one value a picture, nan where the scene does not ask.
    """
    checks, open_questions = _yes_no(scenes), _open(scenes)
    answers = _answers(model, looks, [*checks, *open_questions])
    return _shown(scenes, answers[: len(checks)]), _right(scenes, answers[len(checks) :])


def _answers(model: UnifiedModel, looks: Sequence[Part], questions: Sequence[Question]) -> list[Likelihoods]:
    with adapter_off(model.network):
        return answer_likelihoods(model, [(look,) for look in looks], questions)


def _yes_no(scenes: Sequence[Scene]) -> list[Question]:
    return [
        Question(row, check.question, ("Yes.", "No."), first_word=True)
        for row, scene in enumerate(scenes)
        for check in scene.checks
    ]


def _open(scenes: Sequence[Scene]) -> list[Question]:
    return [Question(row, check.question, check.options) for row, scene in enumerate(scenes) for check in scene.keyed]


def _shown(scenes: Sequence[Scene], answers: Sequence[Likelihoods]) -> Tensor:
    asked = [(row, check) for row, scene in enumerate(scenes) for check in scene.checks]
    yes = torch.stack([probabilities(likelihoods)[0] for likelihoods in answers])
    expected = torch.tensor([check.answer for _, check in asked])
    rows = torch.tensor([row for row, _ in asked])
    total = torch.zeros(len(scenes)).index_add(0, rows, torch.where(expected, yes, 1 - yes))
    return total / torch.zeros(len(scenes)).index_add(0, rows, torch.ones(len(asked)))


def _right(scenes: Sequence[Scene], answers: Sequence[Likelihoods]) -> dict[str, Tensor]:
    asked = [(row, check) for row, scene in enumerate(scenes) for check in scene.keyed]
    found: dict[str, Tensor] = {}
    for (row, check), likelihoods in zip(asked, answers, strict=True):
        values = found.setdefault(check.kind, torch.full((len(scenes),), torch.nan))
        values[row] = probabilities(likelihoods)[check.right]
    return found
