"""Held-out scenes, drawn as users draw them: what the reward says of them, and what judges say that it does not ask.

A reward that rises while the other judges see less is being gamed (gold against proxy, Gao et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from charforge.bases.drawing import draw_pixels
from charforge.expand.scenes import Scene
from charforge.families.protocol import UnifiedModel
from charforge.judges.copies import copied
from charforge.judges.evidence import Judges
from charforge.judges.likeness import nearest_similarity
from charforge.judges.scene import judge_scenes

SEED = 40_000
"""Of the first picture; the same noise every time."""


@dataclass(frozen=True)
class HeldOutScenes:
    """Means over the pictures. ``proxy``: the reward's yes/no questions. ``gold``: the probability of the right answer
    among four to open questions, ``gold_by_kind`` by what was asked. ``identity``: cosine with the nearest of the
    character's pictures by the reward's encoder, ``gold_identity`` by the base's vision tower. ``copy_rate``: share
    of copies (:func:`charforge.judges.copies.copied`). ``flow``: the flow error of the pictures that are watched,
    relative to the start; ``drifted``: it had risen by more than ``grpo.guard``, which ends the stage.
    """

    iteration: int
    proxy: float
    gold: float
    gold_by_kind: dict[str, float]
    identity: float
    gold_identity: float
    copy_rate: float
    pictures: int = 0
    """How many were drawn; 0 where an earlier charforge measured."""
    identity_deviation: float = 0.0
    """Standard deviation of ``identity`` over the pictures."""
    flow: float = 1.0
    drifted: bool = False


def measure_scenes(
    model: UnifiedModel, judges: Judges, scenes: Sequence[Scene], iteration: int, count: int
) -> HeldOutScenes:
    """Draw the first ``count`` scenes with guidance and fixed seeds and judge them."""
    chosen = scenes[:count]
    pictures = draw_pixels(model, [scene.prompt for scene in chosen], [SEED + index for index in range(len(chosen))])
    looked = model.look_at(pictures)
    shown, keyed = judge_scenes(model, looked.parts, chosen)
    nearest = nearest_similarity(judges.encoder.encode(pictures).cpu(), judges.references)
    towards = nearest_similarity(looked.features.cpu(), judges.tower_references)
    return HeldOutScenes(
        iteration=iteration,
        proxy=shown.mean().item(),
        gold=torch.cat([values[~values.isnan()] for values in keyed.values()]).mean().item(),
        gold_by_kind={kind: values.nanmean().item() for kind, values in keyed.items()},
        identity=nearest.mean().item(),
        gold_identity=towards.mean().item(),
        copy_rate=copied(pictures, nearest, judges.marks).float().mean().item(),
        pictures=len(chosen),
        identity_deviation=nearest.std(unbiased=False).item(),
    )


def score(line: HeldOutScenes, start: HeldOutScenes) -> float:
    """What decides which adapter is kept: the gold scene score, less in proportion to what was lost since the start: of
    identity in the eyes of the tower, of the held-out loss, and of drawings that are no copies. Gains in these three
    are worth nothing: likeness grows as well by copying."""
    identity = line.gold_identity / start.gold_identity
    new = (1 - line.copy_rate) / max(1 - start.copy_rate, 1e-6)
    return line.gold * min(1.0, identity) * min(1.0, 1 / line.flow) * min(1.0, new)


def best_so_far(measured: Sequence[HeldOutScenes]) -> HeldOutScenes:
    """The measurement with the highest score, the later one of equals; the start may win, one that drifted cannot."""
    allowed = [line for line in measured if not line.drifted]
    return max(allowed, key=lambda line: (score(line, measured[0]), line.iteration))


def hacked(measured: Sequence[HeldOutScenes], patience: int) -> bool:
    """Whether the last ``patience`` measurements all have a higher proxy and a lower gold score than the best one."""
    best = best_so_far(measured)
    after = [line for line in measured if line.iteration > best.iteration][-patience:]
    return len(after) == patience and all(line.proxy > best.proxy and line.gold < best.gold for line in after)
