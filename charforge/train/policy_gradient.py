"""The clipped policy gradient of drawn pictures, and how far sampling and training compute apart.

The probability ratio compares two passes of the same code over the same batches, so that it is exactly 1 where nothing
was learned in between, whatever the device does with a product of another height. What the rollout's own pass said is
never part of the ratio: its distance from the update's pass is the *sampling gap*, a figure of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from charforge.families.protocol import UnifiedModel
from charforge.families.results import Conditioning, Denoiser
from charforge.flow import log_probability
from charforge.settings import GrpoSettings
from charforge.train.memory import pieces
from charforge.train.rollout import Rollout, Step, learned_rows, transition
from charforge.train.team import ALONE, Team

NOBODY = torch.zeros(0)


@dataclass(frozen=True)
class UpdateStatistics:
    """Of the stochastic steps of one update, each (k,): the ratio's logarithm, whether the ratio is ``outside`` the
    clip range, and in ``gaps`` the log-probability by the update's pass with the weights that drew, less sampling's.
    """

    log_ratios: Tensor = NOBODY
    outside: Tensor = NOBODY
    gaps: Tensor = NOBODY

    @property
    def log_ratio_deviation(self) -> float:
        """Standard deviation of the ratio's logarithm; 0 where there is no ratio."""
        return self.log_ratios.std().item() if len(self.log_ratios) else 0.0

    @property
    def clipped(self) -> float:
        """The share of ratios outside the clip range."""
        return self.outside.float().mean().item() if len(self.outside) else 0.0


def joined_statistics(parts: Sequence[UpdateStatistics]) -> UpdateStatistics:
    """The statistics of an update of which several processes computed a part."""
    return UpdateStatistics(
        torch.cat([one.log_ratios for one in parts]),
        torch.cat([one.outside for one in parts]),
        torch.cat([one.gaps for one in parts]),
    )


def log_probabilities(denoiser: Denoiser, step: Step, chosen: Tensor, grpo: GrpoSettings, second: float) -> Tensor:
    """Log-probability (k,) of what the rows ``chosen`` (k,; on the step's device) of a stochastic step drew, by the
    model of ``denoiser``."""
    now, end = step.now[chosen], step.end[chosen]
    predicted = denoiser.velocity(step.before[chosen], now)
    mean, deviation = transition(step.before[chosen], predicted, now, end, grpo, second)
    return log_probability(step.after[chosen], mean, deviation)


def clipped_loss(log_ratio: Tensor, gains: Tensor, clip_range: float) -> Tensor:
    """max(-A r, -A clip(r, 1 +- clip_range)) (k,), advantages A = ``gains`` (k,), ratio r = exp(``log_ratio``) (k,)."""
    ratio = log_ratio.exp()
    return torch.maximum(-gains * ratio, -gains * ratio.clamp(1 - clip_range, 1 + clip_range))


def importance_weights(gaps: Tensor, cap: float) -> Tensor:
    """Truncated importance weights min(exp(gap), cap) (k,); all 1 where ``cap`` is 0.

    The pictures come from the sampler's policy, the gradient is the trainer's: Yao et al. 2025, "Your efficient RL
    framework secretly brings you off-policy RL training".
    """
    return gaps.exp().clamp(max=cap) if cap > 0 else torch.ones_like(gaps)


def step_weights(step: Step, kind: Literal["even", "noise"]) -> Tensor:
    """What the rows of a stochastic step count (k,): alike, or as much as the noise that was added (TempFlow-GRPO, He
    et al. 2025, arXiv 2508.04324). Only their proportions matter: the gradient is scaled to length 1."""
    return step.deviation if kind == "noise" else torch.ones_like(step.deviation)


def policy_gradient(
    model: UnifiedModel, prompts: Conditioning, rollout: Rollout, gains: Tensor, groups: range,
    grpo: GrpoSettings, size: int, old_policy: Callable[[], AbstractContextManager[None]] | None = None,
    team: Team = ALONE,
) -> UpdateStatistics:  # fmt: skip
    """Backward through the clipped loss of the pictures of ``groups``, ``size`` at a time: its mean over pictures and
    their stochastic steps. ``gains`` (pictures,) are the advantages; of each group :func:`learned_rows` take part.
    Of a ``team`` each process computes its part of that mean.

    Inside ``old_policy()`` the model has the weights that drew: old log-probabilities are computed there, in the same
    batches as the new ones, whatever ``size`` a second try has. None: no optimiser step lies between, and they are
    those of the very pass that learns.
    """
    device = model.device
    second = float(model.times(grpo.steps, grpo.timestep_shift)[1])
    learned = set(learned_rows(gains, groups, grpo))
    mine = [[k for k, row in enumerate(step.rows.tolist()) if row in learned] for step in rollout.steps]
    count = sum(len(own) for own in mine)
    mine = [[own[k] for k in team.share(len(own))] for own in mine]
    log_ratios: list[Tensor] = []
    gaps: list[Tensor] = []
    for step, own in zip(rollout.steps, mine, strict=True):
        for some in pieces(own, size):
            rows, chosen = step.rows[list(some)], torch.tensor(some, device=device)
            denoiser = model.denoiser(prompts.select((rows // grpo.group).tolist()), rollout.canvas)
            if old_policy is not None:
                with torch.no_grad(), old_policy():
                    old = log_probabilities(denoiser, step, chosen, grpo, second)
            new = log_probabilities(denoiser, step, chosen, grpo, second)
            if old_policy is None:
                old = new.detach()
            log_ratio, gap = new - old, old - step.log_probability[chosen]
            losses = clipped_loss(log_ratio, gains[rows].to(device), grpo.clip_range)
            losses = losses * step_weights(step, grpo.step_weights)[chosen]
            ((importance_weights(gap, grpo.importance_cap) * losses).sum() / count).backward()
            log_ratios.append(log_ratio.detach())
            gaps.append(gap)
            # with its graph go the inputs that products of bitsandbytes hold on to, also after a backward pass
            del new, log_ratio, losses
    if not log_ratios:
        return UpdateStatistics()
    # read once, at the end: a GPU computes one piece while the next is prepared
    log_ratio = torch.cat(log_ratios).cpu()
    return UpdateStatistics(log_ratio, (log_ratio.exp() - 1).abs() > grpo.clip_range, torch.cat(gaps).cpu())
