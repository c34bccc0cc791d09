"""Has the base stayed who it was for everybody else?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from charforge.bases.drawing import draw_target
from charforge.families.protocol import UnifiedModel
from charforge.families.replies import rows_of
from charforge.sample import Sample
from charforge.train.losses import draw_noise

TIMES_SEED, DRAWN_SEED = 80_000, 85_000
ANSWER_TOKENS = 60
QUESTIONS = (
    "What is the largest planet?", "How do I clean a window?", "Tell me about bees.", "What is the opposite of brave?",
    "Name a fruit that is yellow.", "How do I make tea?", "What do people do at a wedding?", "Why do leaves fall?",
    "What is a good present for a child?", "Describe a train station.", "What is nine plus six?", "How do birds fly?",
)  # fmt: skip
"""None of them is replayed in training (charforge/replay): what is replayed is learned, and says nothing."""
CAPTIONS = (
    "an old woman in a garden", "a black dog on a bridge", "a robot in a kitchen", "a girl with a red umbrella",
    "a blue car in a city", "a man reading in a library", "a cat on a sofa", "a house by a lake",
)  # fmt: skip


@torch.no_grad()
def own_texts(model: UnifiedModel, count: int) -> list[Sample]:
    """The first ``count`` of ``QUESTIONS`` with what the model, as it is, answers to them: its likeliest words."""
    asked = QUESTIONS[:count]
    if not asked:
        return []
    with model.autocast():
        read = model.read([(model.text(question, "user"),) for question in asked])
        said = rows_of(model.reply(read, lambda logits: logits.argmax(-1), ANSWER_TOKENS), read.rows)
    answers = [model.words(row).strip() for row in said]
    return [
        (model.text(question, "user"), model.text(answer, "assistant", loss=True))
        for question, answer in zip(asked, answers, strict=True)
        if answer
    ]


def own_pictures(model: UnifiedModel, count: int) -> list[Sample]:
    """The first ``count`` of ``CAPTIONS`` with what the model, as it is, draws of them."""
    return [
        (model.text(caption), draw_target(model, caption, DRAWN_SEED + number))
        for number, caption in enumerate(CAPTIONS[:count])
    ]


@torch.no_grad()
def text_rows(model: UnifiedModel, samples: Sequence[Sample]) -> np.ndarray:
    """(samples, 2): cross-entropy of each sample's supervised tokens, summed in nats, and their number."""
    rows = []
    with model.autocast():
        for sample in samples:
            total, count = model.text_loss([sample])
            rows.append((total.item(), count))
    return np.array(rows, dtype=float).reshape(-1, 2)


@torch.no_grad()
def picture_rows(model: UnifiedModel, samples: Sequence[Sample]) -> np.ndarray:
    """(samples, 2): squared error of the flow of each picture, summed over its tokens, and their number; at noise and
    times that are the same whenever they are drawn."""
    rows = []
    with model.autocast():
        for number, sample in enumerate(samples):
            noise = draw_noise([sample], 1.0, torch.Generator().manual_seed(TIMES_SEED + number))
            total, count = model.picture_loss([sample], noise, prompt_gradients=False)
            rows.append((total.item(), count))
    return np.array(rows, dtype=float).reshape(-1, 2)


def forgotten(rows: np.ndarray) -> float:
    """How much worse the model foresees what the bare base said or drew by itself: 0 is unchanged, .1 is 10 % worse.

    ``rows`` (samples, 4): loss and tokens with the adapter off, then with it on. Losses are means over all tokens.

    - Range: above -1; about 0 is wanted. Losses of the base's own likeliest words are small, so that a ratio is soon
      large: .5 is still the same answer, often in fewer words.
    - Source: the loss ratio of continual learning, on what the base itself says to questions and draws of captions that
      no training replays.
    - Caveat: a dozen questions and eight captions, everyday ones. What was not asked may have changed more.
    """
    off, on = (rows[:, start].sum() / rows[:, start + 1].sum() for start in (0, 2))
    return float(on / off - 1)
