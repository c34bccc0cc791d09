"""The settings of the first stage, Unified-SFT."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, model_validator

from charforge import kinds
from charforge.settings.section import Neutral, Section


class SftSettings(Section):
    """Unified-SFT: how much of what a step trains on, and how fast it learns.

    Steps come in two parts: study steps, whose texts are questions and requests, and the steps after them, which hold
    dialogues too. Pictures are in all of them.
    """

    model_config = ConfigDict(extra="allow")
    # a kind of samples that has no fields here is counted by its row in the table
    __pydantic_extra__: dict[str, Annotated[int, Field(ge=0)]]

    steps: int = Field(
        200, ge=1,
        description="Optimiser steps of the first stage. More steps take longer, fix looks and words more firmly and "
        "in the end copy the pictures; raise it when the character is hardly recognised, lower it when its ten "
        "pictures come back.",
    )  # fmt: skip
    study_share: float = Field(
        0.0, ge=0, le=0.9,
        description="Share of the steps that come first and study: facts, looks and requests without dialogues. In "
        "the same step a reply of many tokens drowns a short answer. Raise it when facts are not known; 0 leaves it "
        "out.",
    )  # fmt: skip
    study_knowledge: int = Field(
        12, ge=0, description="Questions about facts in each study step. Raise it when the character has many facts."
    )
    study_looks: int = Field(
        3, ge=0, description="Questions about pictures in each study step. Raise it when it describes pictures wrongly."
    )
    study_requests: int = Field(
        4, ge=0,
        description="Requests for a picture in each study step, answered by the picture's plan. Raise it when a reply "
        'to "Send me a picture" ends without a plan.',
    )  # fmt: skip
    study_rate: float = Field(
        3.0, gt=0,
        description="Factor on text_learning_rate during the study steps. Lower it when the base is small or the rate "
        "is high already.",
    )  # fmt: skip
    dialogues: int = Field(
        3, ge=0,
        description="Role-play replies in each step after the study steps: they teach the voice. Raise it when it "
        "does not sound like the character.",
    )  # fmt: skip
    requests: int = Field(
        1,
        ge=0,
        description="Requests for a picture in each step after the study steps, answered by the picture's plan.",
    )
    knowledge: int = Field(
        1, ge=0, description="Questions about facts in each step after the study steps, so that they are not forgotten."
    )
    looks: int = Field(
        1, ge=0, description="Questions about pictures in each step after the study steps: who, where, what, yes or no."
    )
    pictures: int = Field(
        4, ge=0,
        description="Pictures of the character in each step. More cost time in proportion and see each picture more "
        "often.",
    )  # fmt: skip
    replay_pictures: int = Field(
        4, ge=0,
        description="Pictures of other subjects in each step, drawn by the base itself before training, once for all "
        "characters. Keep it about as high as pictures: without them everybody turns into the character.",
    )  # fmt: skip
    replay_texts: int = Field(
        1, ge=0,
        description="Answers of the base itself in each step, so that it does not forget how to talk to anybody else.",
    )  # fmt: skip
    replay_looks: int = Field(
        0, ge=0,
        description="Pictures of other subjects looked at in each step, with about four questions each, answered as "
        'the base answered before. Use 1 when it begins to say yes to every "Is this ...?".',
    )  # fmt: skip
    draws: int = Field(
        1, ge=1,
        description="Noisy versions of each picture in a step. They share one reading of the caption: a second one "
        "costs less than a second picture and makes the gradient steadier.",
    )  # fmt: skip
    text_learning_rate: float = Field(
        1e-4, gt=0,
        description="Highest learning rate of the expert that reads and writes; linear warm-up, then a cosine to a "
        "tenth. Lower it when replies repeat the dialogues word for word; fewer adapted layers (adapter.frozen_share) "
        "bear a higher one.",
    )  # fmt: skip
    picture_learning_rate: float = Field(
        1e-4, gt=0,
        description="Highest learning rate of the expert that draws; linear warm-up, then a cosine to a tenth. Raise "
        "it when the likeness comes too slowly, lower it when pictures become copies.",
    )  # fmt: skip
    warmup: int = Field(
        10,
        ge=0,
        description="Steps over which both learning rates rise from zero. Raise it when the first losses jump.",
    )
    timestep_shift: float = Field(
        3.0, gt=0,
        description="How far the noise times of training lean towards pure noise; 1 does not lean. Keep the value of "
        "the sampler (3), so that training sees the times that drawing uses.",
    )  # fmt: skip
    caption_dropout: float = Field(
        0.1, ge=0, le=1,
        description="Share of the pictures that are trained on without their caption. Guidance while drawing needs "
        "some; 0 is for drawing without guidance.",
    )  # fmt: skip
    ce_weight: float = Field(
        0.25,
        ge=0,
        description="Weight of the text loss (cross-entropy per token) in ce_weight * text + mse_weight * picture.",
    )
    mse_weight: float = Field(
        1.0, ge=0, description="Weight of the picture loss (squared flow error per latent token) in the same sum."
    )
    clip: float = Field(
        1.0,
        gt=0,
        description="Largest length of the gradient; a longer one is scaled down to it. Rarely worth changing.",
    )
    context_gradients: bool = Field(
        True,
        description="Whether the picture loss also trains the expert that reads the caption. true takes about twice "
        "the time for pictures; false reads each caption once and trains the drawing expert alone.",
    )  # fmt: skip
    evaluate_every: int = Field(
        50, ge=1,
        description="Steps between two measurements of the held-out loss at fixed noise. The best one decides which "
        "checkpoint is kept, so this setting decides the result too.",
    )  # fmt: skip
    preview_every: Neutral[int] = Field(
        100,
        ge=1,
        description="Steps between two previews in the run folder: four fixed scenes, drawn on the way.",
    )
    checkpoint_every: Neutral[int] = Field(
        25, ge=1, description="Steps between two checkpoints: at most so many are computed again after a kill."
    )

    @model_validator(mode="before")
    @classmethod
    def _further_kinds(cls, data: dict[str, Any]) -> dict[str, Any]:
        further = {name: count for name, count in kinds.counts().items() if name not in cls.model_fields}
        unknown = [name for name in data if name not in cls.model_fields and name not in further]
        if unknown:
            wrong: Any = [{"type": "extra_forbidden", "loc": (name,), "input": data[name]} for name in unknown]
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return further | data

    def count(self, kind: kinds.Kind, studying: bool = False) -> int:
        """How many of ``kind`` a step takes, or a study step."""
        if studying and kind.part in ("voice", "facts"):
            return int(getattr(self, f"study_{kind.name}")) if kind.study is not None else 0
        return int(getattr(self, kind.name))
