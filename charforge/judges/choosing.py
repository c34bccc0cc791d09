"""The best of several drawings: most like the character, and showing what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from charforge import grammar
from charforge.families.protocol import UnifiedModel
from charforge.judges.encoders import Encoder, encoded
from charforge.judges.likeness import References, calibrate, nearest_similarity, usual_likeness
from charforge.likelihood import Question, answer_likelihoods, probabilities
from charforge.low_rank import adapter_off
from charforge.pixels import to_pixels


@dataclass(frozen=True)
class Taste:
    """Whose eyes, what to compare with, and of how many drawings one is taken."""

    encoder: Encoder
    references: References
    count: int


def taste_of(encoder: Encoder, pictures: Sequence[Image.Image], count: int) -> Taste:
    """A taste for a character, known from three or more of its ``pictures``, which may have any size."""
    own = [to_pixels(picture, picture.size) for picture in pictures]
    return Taste(encoder, calibrate(encoded(encoder.encode, own)), count)


def best_of(
    taste: Taste, model: UnifiedModel, pictures: Sequence[Image.Image], details: Sequence[str]
) -> tuple[int, float]:
    """Which picture is the best, and its likeness: the cosine with the most similar of the character's pictures.

    ``details`` are what the pictures should show: the base without an adapter looks and says how sure it is.
    """
    pixels = torch.stack([to_pixels(picture, picture.size) for picture in pictures])
    known = taste.references
    alike = nearest_similarity(taste.encoder.encode(pixels).cpu(), known)
    score = usual_likeness(alike, known) + _shown(model, pixels, details)
    best = int(score.argmax())
    return best, round(float(alike[best]), 4)


def _shown(model: UnifiedModel, pixels: Tensor, details: Sequence[str]) -> Tensor:
    """(rows,) P(yes) as a mean over the details; 0 without any."""
    if not details:
        return torch.zeros(len(pixels))
    asked = [grammar.has_detail("the character", detail) for detail in details]
    with adapter_off(model.network):
        looks = model.look_at(pixels).parts
        questions = [
            Question(row, text, ("Yes.", "No."), first_word=True) for row in range(len(looks)) for text in asked
        ]
        found = answer_likelihoods(model, [(look,) for look in looks], questions)
    return torch.stack([probabilities(one)[0] for one in found]).view(len(looks), -1).mean(1)
