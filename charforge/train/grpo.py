"""Character-GRPO: groups of pictures for new scenes, paid by the judges, beside an anchor of the first stage's loss.

Only the drawing expert's adapter learns; prompts are read once for the whole stage. Everything random in iteration n
comes from a generator seeded by (seed, n): a run that was interrupted continues as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from charforge.adapter.lora import with_values
from charforge.bases.drawing import read_prompts
from charforge.device import wait_for
from charforge.errors import MachineError
from charforge.expand.scenes import Scene
from charforge.families.protocol import UnifiedModel
from charforge.families.results import Conditioning
from charforge.judges.evidence import Judges
from charforge.judges.judges import advantages, reward_parts, total_reward, update_scales
from charforge.sample import Sample
from charforge.settings import GrpoSettings, Settings
from charforge.train.checkpoints import load_checkpoint, save_checkpoint
from charforge.train.forward_process import forward_process_gradient, move_old_policy
from charforge.train.held_out_scenes import HeldOutScenes, best_so_far, hacked, measure_scenes
from charforge.train.interrupt import Interruption
from charforge.train.losses import Weights, draw_noise, unified_gradient
from charforge.train.matching import (
    LATENTS,
    keep_best,
    kept_scenes,
    matching_gradient,
    matching_weights,
    nothing_kept,
)
from charforge.train.memory import Memory, memory_of_second_stage
from charforge.train.noised import noised_again
from charforge.train.optimizers import make_optimizer
from charforge.train.policy_gradient import UpdateStatistics, joined_statistics, policy_gradient
from charforge.train.rollout import Rollout, draw_groups, joined_rollouts, learned_rows, roll_out
from charforge.train.samples import Dataset, choose
from charforge.train.schedule import rate_factor
from charforge.train.sft import flow_error
from charforge.train.team import ALONE, Team

Told = TypeVar("Told")
"""What a gradient tells of itself."""


@dataclass(frozen=True)
class IterationLog:
    """One line of ``metrics.jsonl``. ``parts`` are means over the pictures; ratio and clipping are the last update's.

    ``sampling_gap_mean`` and ``sampling_gap_max`` are of the absolute difference between the log-probabilities that the
    rollout's pass and the update's own give to the same steps with the same weights.
    """

    iteration: int
    reward: float
    parts: dict[str, float]
    flat_groups: float
    sampling_gap_mean: float
    sampling_gap_max: float
    log_ratio_deviation: float
    clipped: float
    gradient_norm: float
    guard: float
    images_per_second: float
    rollout_seconds: float
    reward_seconds: float
    update_seconds: float


@dataclass(frozen=True)
class GrpoHooks:
    """What the run does beside the loop."""

    on_iteration: Callable[[IterationLog], None]
    on_held_out: Callable[[HeldOutScenes, bool], None]
    on_preview: Callable[[int], None]
    on_note: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class GrpoResult:
    """The measurements before and at the kept iteration, and why the loop ended."""

    start: HeldOutScenes
    best: HeldOutScenes
    iterations: int
    ended: str


def learn_from(model: UnifiedModel, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """The part of the adapter that draws, trainable; the rest is frozen for this stage."""
    drawing = {name: parameter for name, parameter in parameters.items() if model.shapes.role_of(name) == "picture"}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in drawing)
    return drawing


def anchor_gradient(
    model: UnifiedModel, data: Dataset, settings: Settings, index: int, size: int, team: Team = ALONE
) -> None:
    """Backward through the first stage's picture loss, ``size`` at a time: some own pictures, as many of the base's.

    Of a ``team`` it is the part of this process.
    """
    grpo = settings.grpo
    samples: list[Sample] = choose(data.samples("pictures"), grpo.anchor_pictures, index, settings.seed)
    samples += choose(data.samples("replay_pictures"), grpo.anchor_pictures, index, settings.seed)
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + 700_000_000 + index)
    noise = draw_noise(samples, settings.sft.timestep_shift, generator)
    unified_gradient(model, [], samples, noise, Weights(0.0, 1.0), size, prompt_gradients=False, team=team)


def taken_gradient(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """The gradients, taken off the parameters and scaled to length 1 together (zero stays zero)."""
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    norm = torch.linalg.vector_norm(torch.stack([g.float().norm() for g in gradients])).item()
    if not math.isfinite(norm):
        raise MachineError("the gradient of the second stage is not finite: lower grpo.learning_rate")
    return [g / norm for g in gradients] if norm > 0 else gradients


def update(
    model: UnifiedModel, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], data: Dataset,
    settings: Settings, index: int, reward_gradient: Callable[[int], Told], memory: Memory, team: Team = ALONE,
) -> tuple[Told, float]:  # fmt: skip
    """One optimiser step along both gradients, each of length 1 before the anchor's weight. Returns the length too.

    Of a ``team`` each process computes its part of both.
    """
    grpo = settings.grpo
    with model.autocast():
        statistics = memory.fit(reward_gradient, parameters)
        team.add_up(parameters, [])
        towards = taken_gradient(parameters)
        if grpo.anchor > 0 and grpo.anchor_pictures:
            memory.fit(lambda size: anchor_gradient(model, data, settings, index, size, team), parameters)
            team.add_up(parameters, [])
            towards = [g + grpo.anchor * a for g, a in zip(towards, taken_gradient(parameters), strict=True)]
    for parameter, gradient in zip(parameters, towards, strict=True):
        parameter.grad = gradient
    norm = nn.utils.clip_grad_norm_(parameters, grpo.gradient_clip).item()
    for group in optimizer.param_groups:
        # at a rate that stays high the character's own pictures blur: identity falls, whatever the reward says
        group["lr"] = grpo.learning_rate * rate_factor(index, grpo.warmup, grpo.iterations * grpo.updates)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return statistics, norm


def iterate(
    model: UnifiedModel, optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter],
    kept: dict[str, Tensor], data: Dataset, scenes: Sequence[Scene], prompts: Conditioning, judges: Judges,
    settings: Settings, number: int, scales: dict[str, float], memory: Memory, team: Team = ALONE,
    stop: Interruption | None = None,
) -> tuple[dict[str, object], dict[str, float]]:  # fmt: skip
    """Draw, judge, learn: one iteration. Returns the log's values and the new scales; changes ``kept`` in place.

    Each process of a ``team`` draws and judges some of the groups; all of them know what was drawn and how it was
    judged, and each computes its part of the gradients. ``stop`` learns whether a signal has reached any of them.
    Raises TeamBroken.
    """
    grpo, began = settings.grpo, time.perf_counter()
    chosen = choose(range(len(scenes)), grpo.prompts, number, settings.seed)
    mine, canvas = prompts.select(chosen), model.canvas(grpo.side)
    own = team.share(len(chosen))
    drawing = with_values(parameters, kept) if grpo.algorithm == "nft" else nullcontext()

    def draw(size: int) -> tuple[Rollout, torch.Generator]:
        # seeded here: what did not fit is drawn again from the beginning
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + 500_000_000 + number)
        if grpo.algorithm in ("grpo", "nft"):
            return roll_out(model, mine, canvas, grpo, generator, size, own), generator
        # what is kept is as good as can be drawn; an advantage belongs to what the policy itself draws
        guidance = None if grpo.algorithm == "best_of" else 1.0
        return draw_groups(model, mine, canvas, grpo, generator, size, guidance, own), generator

    with model.autocast(), drawing:
        rollout, generator = memory.fit(draw)
    pictures = model.decode(rollout.latents, canvas)
    wait_for(model.device)
    drawn = time.perf_counter()
    shown = [scenes[chosen[group]] for group in own for _ in range(grpo.group)]
    rollout, parts = of_all(team, rollout, reward_parts(judges, pictures, shown, grpo.group), model.device)
    scales = update_scales(scales, parts, grpo.group)
    rewards = total_reward(parts, settings.reward, scales)
    gains, flat = advantages(rewards, grpo.group, grpo.advantage_clip)
    if grpo.algorithm == "best_of":
        keep_best(kept, chosen, rollout.latents, rewards, grpo.group)
    judged = time.perf_counter()
    statistics: list[UpdateStatistics] = []
    drew = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for number_of_update in range(grpo.updates):
        # every update sees its share of the groups
        edges = [len(chosen) * n // grpo.updates for n in (number_of_update, number_of_update + 1)]
        groups, index = range(*edges), number * grpo.updates + number_of_update
        learn: Callable[[int], UpdateStatistics | None]
        if grpo.algorithm == "grpo":
            # from the second update on the policy has moved since it drew
            old_policy = partial(with_values, parameters, drew) if number_of_update else None
            learn = partial(
                policy_gradient, model, mine, rollout, gains, groups, grpo, old_policy=old_policy, team=team
            )
        elif grpo.algorithm == "best_of":
            taken = kept_scenes(kept, grpo.kept_pictures, index, settings.seed)
            noised = noised_again(kept[LATENTS], taken, prompts, taken, canvas, grpo, generator)
            learn = partial(matching_gradient, model, noised, torch.ones(len(scenes)), team=team)
        else:
            # of an advantage that counts nothing there is nothing to learn
            weights = (
                matching_weights(gains, grpo.negative_share) if grpo.algorithm == "awm" else torch.ones(len(gains))
            )
            rows = [row for row in learned_rows(gains, groups, grpo) if weights[row] != 0]
            owners = [row // grpo.group for row in rows]
            noised = noised_again(rollout.latents, rows, mine, owners, canvas, grpo, generator)
            if grpo.algorithm == "awm":
                learn = partial(matching_gradient, model, noised, weights, team=team)
            else:
                learn = partial(forward_process_gradient, model, noised, gains, grpo, parameters, kept, team=team)
        told, norm = update(model, optimizer, list(parameters.values()), data, settings, index, learn, memory, team)
        statistics.append(told or UpdateStatistics())
    if grpo.algorithm == "nft":
        move_old_policy(kept, parameters, grpo.nft_decay)
    # the end of the iteration: what each process has seen, and whether one of them was asked to stop
    seen = team.everyone((statistics, stop is not None and stop.requested))
    if stop is not None:
        stop.agree(any(asked for _, asked in seen))
    gaps = torch.cat([told.gaps for of_one, _ in seen for told in of_one]).abs()
    last = joined_statistics([of_one[-1] for of_one, _ in seen])
    wait_for(model.device)
    seconds = time.perf_counter() - began
    return {
        "reward": rewards.mean().item(),
        "parts": {name: part.mean().item() for name, part in parts.items()},
        "flat_groups": flat.float().mean().item(),
        "sampling_gap_mean": gaps.mean().item() if len(gaps) else 0.0,
        "sampling_gap_max": gaps.max().item() if len(gaps) else 0.0,
        "log_ratio_deviation": last.log_ratio_deviation,
        "clipped": last.clipped,
        "gradient_norm": norm,
        "images_per_second": len(rewards) / seconds,
        "rollout_seconds": drawn - began,
        "reward_seconds": judged - drawn,
        "update_seconds": began + seconds - judged,
    }, scales


def of_all(
    team: Team, rollout: Rollout, parts: dict[str, Tensor], device: torch.device
) -> tuple[Rollout, dict[str, Tensor]]:
    """What all processes of a ``team`` have drawn and how it was judged, from what each has of its own."""
    if team.size == 1:
        return rollout, parts
    said = team.everyone((rollout.to("cpu"), parts))
    whole = joined_rollouts([of_one.to(device) for of_one, _ in said])
    return whole, {name: torch.cat([judged[name] for _, judged in said]) for name in parts}


def kept_at_first(
    model: UnifiedModel, grpo: GrpoSettings, parameters: dict[str, nn.Parameter], scenes: int
) -> dict[str, Tensor]:
    """What an algorithm keeps between iterations beside the adapter: the policy that draws, where it is not the one
    that learns, or the best pictures so far."""
    if grpo.algorithm == "nft":
        return {name: parameter.detach().clone() for name, parameter in parameters.items()}
    return nothing_kept(scenes, model.canvas(grpo.side).shape) if grpo.algorithm == "best_of" else {}


def gap_warning(log: IterationLog, grpo: GrpoSettings) -> str:
    """What a person should know where sampling and training compute further apart than the clip range."""
    remedy = "grpo.importance_cap weighs it already" if grpo.importance_cap else "grpo.importance_cap = 2 weighs for it"
    return (
        f"sampling and training compute apart on this machine: log-probabilities differ by {log.sampling_gap_mean:.1e} "
        f"on average and {log.sampling_gap_max:.1e} at most, more than grpo.clip_range ({grpo.clip_range:.0e}). "
        f"Training goes on; {remedy}"
    )


def train_grpo(
    model: UnifiedModel, adapter: dict[str, nn.Parameter], data: Dataset, scenes: Sequence[Scene], judges: Judges,
    settings: Settings, folder: Path, hooks: GrpoHooks, memory: Memory | None = None, stop: Interruption | None = None,
    team: Team = ALONE,
) -> GrpoResult:  # fmt: skip
    """The second stage from the adapter as it stands, resuming from ``folder/last.safetensors``.

    ``folder/best.safetensors`` holds the adapter that did best on the held-out scenes; it is there only if one did
    better than the start. Stops early when the held-out pictures' flow loss rises by more than ``guard`` or when the
    reward on held-out scenes rises while the judges that no reward asks see less. Raises Interrupted, after a
    checkpoint, where ``stop`` was asked for.

    The processes of a ``team`` call this alike, on the same data; the first one alone measures, previews and writes.
    Raises TeamBroken when one of them has ended: the checkpoint of the iteration before stands.
    """
    grpo, parameters = settings.grpo, learn_from(model, adapter)
    train = [scene for scene in scenes if scene.split == "train"]
    held = [scene for scene in scenes if scene.split == "held_out"]
    memory, stop = memory or memory_of_second_stage(model, settings), stop or Interruption()
    optimizer = make_optimizer(
        [{"params": list(parameters.values()), "lr": 0.0}], memory.settings.optimizer, (0.9, 0.99)
    )
    optimizer.register_step_pre_hook(stop.changing)
    # read once: what reads does not change in this stage
    prompts = read_prompts(model, [scene.prompt for scene in train])
    # with too few pictures to hold one out, some that are trained on are watched: they drift later
    watched = data.samples("held_out_pictures") or data.samples("pictures")[:4]
    last, best_file = folder / "last.safetensors", folder / "best.safetensors"
    scales: dict[str, float] = {}
    # judged: whether all that belongs to the last iteration is done, its measurement and its preview
    number, judged, ended, warned = 0, True, "", False
    kept = kept_at_first(model, grpo, parameters, len(train))
    # the watched pictures' flow error after the latest iteration, of that at the start; None where it began before
    guard: float | None = None
    if last.exists():
        number, notes = load_checkpoint(last, parameters, optimizer, kept)
        measured = [HeldOutScenes(**line) for line in notes["measured"]]  # type: ignore[attr-defined]
        scales, drift_start, ended = notes["scales"], float(notes["drift_start"]), str(notes["ended"])  # type: ignore
        judged = bool(notes["judged"])
    elif not team.writes:
        # its measurements are nobody's
        drift_start, measured = math.nan, [HeldOutScenes(0, math.nan, math.nan, {}, math.nan, math.nan, math.nan)]
    else:
        # of a start that came to its first measurement, but to no checkpoint
        best_file.unlink(missing_ok=True)
        drift_start = flow_error(model, watched, settings.sft)
        measured = [measure_scenes(model, judges, held, 0, grpo.held_out_pictures)]
        hooks.on_held_out(measured[0], True)
    # the first process may write the next checkpoint only when all have read this one
    team.check_alike((number, judged, ended))

    def save() -> None:
        if not team.writes:
            return
        notes = {
            "measured": [asdict(line) for line in measured], "scales": scales, "drift_start": drift_start,
            "ended": ended, "judged": judged,
        }  # fmt: skip
        save_checkpoint(last, parameters, optimizer, number, notes, kept)

    with stop.saving(save):
        while (number < grpo.iterations and not ended) or not judged:
            if judged:
                if kept:
                    # what is kept changes before an iteration's last step, and nft draws with other values
                    stop.changing()
                values, scales = iterate(
                    model, optimizer, parameters, kept, data, train, prompts, judges, settings, number, scales, memory,
                    team, stop,
                )  # fmt: skip
                number, judged = number + 1, False
                if team.writes:
                    guard = flow_error(model, watched, settings.sft) / drift_start
                    log = IterationLog(iteration=number, guard=guard, **values)  # type: ignore[arg-type]
                    hooks.on_iteration(log)
                    if log.sampling_gap_max > grpo.clip_range and not warned:
                        hooks.on_note(gap_warning(log, grpo))
                        warned = True
                    if guard > 1 + grpo.guard:
                        ended = f"flow loss on pictures of the character rose by {100 * (guard - 1):.0f} %"
                stop.settled()
            if team.writes and number % grpo.preview_every == 0:
                hooks.on_preview(number)
            due = team.writes and (number % grpo.evaluate_every == 0 or number == grpo.iterations or ended)
            line = measure_scenes(model, judges, held, number, grpo.held_out_pictures) if due else None
            if line is not None:
                if guard is None:
                    guard = flow_error(model, watched, settings.sft) / drift_start
                line = replace(line, flow=guard, drifted=guard > 1 + grpo.guard)
            stop.changing()
            if line is not None:
                measured.append(line)
                is_best = best_so_far(measured) is line
                hooks.on_held_out(line, is_best)
                if is_best:
                    save_checkpoint(best_file, adapter, optimizer, number, {})
                if hacked(measured, grpo.patience):
                    ended = "the reward on held-out scenes rose while the judges that it does not ask saw less"
            judged, ended = True, team.told(ended)
            # where several work one may be lost at any time, and an iteration cannot be taken back half way
            if team.size > 1 or number % grpo.checkpoint_every == 0 or number == grpo.iterations or ended:
                save()
            stop.settled()
    return GrpoResult(measured[0], best_so_far(measured), number, ended or "all iterations")
