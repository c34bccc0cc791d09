"""What rewards are computed from: who judges, and what is seen of some pictures, each thing computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from charforge.expand.scenes import Scene
from charforge.families.protocol import UnifiedModel
from charforge.judges.copies import CopyMarks
from charforge.judges.encoders import Encoder, TextMatcher
from charforge.judges.likeness import References, nearest_similarity
from charforge.judges.published_judges import PublishedJudges
from charforge.judges.scene import scene_reward
from charforge.settings import RewardSettings


@dataclass(frozen=True)
class Judges:
    """What is needed to pay for pictures.

    ``references`` are the character's own pictures in the features of ``encoder``, ``tower_references`` in those of the
    base's vision tower, which no reward asks. ``marks``: from where on a picture is a copy. ``matcher`` and
    ``published`` are None where the settings ask for none.
    """

    model: UnifiedModel
    settings: RewardSettings
    encoder: Encoder
    references: References
    tower_references: References
    marks: CopyMarks
    matcher: TextMatcher | None
    published: PublishedJudges | None


@dataclass(frozen=True)
class Evidence:
    """``pictures`` (rows, 3, H, W) in [-1, 1], groups of ``size`` in order; ``scenes`` one a picture."""

    judges: Judges
    pictures: Tensor
    scenes: Sequence[Scene]
    size: int

    @cached_property
    def scene(self) -> Tensor:
        """(rows,): how sure the base is that the picture shows its scene, in [0, 1]."""
        model = self.judges.model
        return scene_reward(model, model.look_at(self.pictures).parts, self.scenes)

    @cached_property
    def features(self) -> Tensor:
        """(rows, width) of length 1, by the encoder, on the CPU."""
        return self.judges.encoder.encode(self.pictures).cpu()

    @cached_property
    def nearest(self) -> Tensor:
        """(rows,): cosine with the nearest of the character's own pictures."""
        return nearest_similarity(self.features, self.judges.references)
