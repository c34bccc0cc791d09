"""Character-GRPO: groups of pictures for new scenes, paid by the judges, beside an anchor of the first stage's loss.

Only the drawing expert's adapter learns; prompts are read once for the whole stage. Everything random in iteration n
comes from a generator seeded by (seed, n): a run that was interrupted continues as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

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
from charforge.train.forward_process import (
    Noised,
    forward_process_gradient,
    move_old_policy,
    noised_again,
)
from charforge.train.held_out_scenes import HeldOutScenes, best_so_far, hacked, measure_scenes
from charforge.train.interrupt import Interruption
from charforge.train.losses import Weights, draw_noise, unified_gradient
from charforge.train.memory import Memory, memory_of_second_stage
from charforge.train.optimizers import make_optimizer, rate_factor
from charforge.train.policy_gradient import UpdateStatistics, policy_gradient
from charforge.train.rollout import Rollout, roll_out
from charforge.train.samples import Dataset, choose
from charforge.train.sft import flow_error

OldPolicy = Callable[[], AbstractContextManager[None]] | None


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


def anchor_gradient(model: UnifiedModel, data: Dataset, settings: Settings, index: int, size: int) -> None:
    """Backward through the first stage's picture loss, ``size`` at a time: some own pictures, as many of the base's."""
    grpo = settings.grpo
    samples: list[Sample] = choose(data.samples("pictures"), grpo.anchor_pictures, index, settings.seed)
    samples += choose(data.samples("replay_pictures"), grpo.anchor_pictures, index, settings.seed)
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + 700_000_000 + index)
    noise = draw_noise(samples, settings.sft.timestep_shift, generator)
    unified_gradient(model, [], samples, noise, Weights(0.0, 1.0), size, prompt_gradients=False)


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
    settings: Settings, index: int, reward_gradient: Callable[[int], UpdateStatistics], memory: Memory,
) -> tuple[UpdateStatistics, float]:  # fmt: skip
    """One optimiser step along both gradients, each of length 1 before the anchor's weight. Returns the length too."""
    grpo = settings.grpo
    with model.autocast():
        statistics = memory.fit(reward_gradient, parameters)
        towards = taken_gradient(parameters)
        if grpo.anchor > 0 and grpo.anchor_pictures:
            memory.fit(lambda size: anchor_gradient(model, data, settings, index, size), parameters)
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
    old: dict[str, Tensor], data: Dataset, scenes: Sequence[Scene], prompts: Conditioning, judges: Judges,
    settings: Settings, number: int, scales: dict[str, float], memory: Memory,
) -> tuple[dict[str, object], dict[str, float]]:  # fmt: skip
    """Draw, judge, learn: one iteration. Returns the log's values and the new scales."""
    grpo, began = settings.grpo, time.perf_counter()
    chosen = choose(range(len(scenes)), grpo.prompts, number, settings.seed)
    mine, canvas = prompts.select(chosen), model.canvas()
    drawing = with_values(parameters, old) if grpo.algorithm == "nft" else nullcontext()

    def draw(size: int) -> tuple[Rollout, torch.Generator]:
        # seeded here: what did not fit is drawn again from the beginning
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + 500_000_000 + number)
        return roll_out(model, mine, canvas, grpo, generator, size), generator

    with model.autocast(), drawing:
        rollout, generator = memory.fit(draw)
    pictures = model.decode(rollout.latents, canvas)
    wait_for(model.device)
    drawn = time.perf_counter()
    shown = [scenes[index] for index in chosen for _ in range(grpo.group)]
    parts = reward_parts(judges, pictures, shown, grpo.group)
    scales = update_scales(scales, parts, grpo.group)
    rewards = total_reward(parts, settings.reward, scales)
    gains, flat = advantages(rewards, grpo.group, grpo.advantage_clip)
    judged = time.perf_counter()
    statistics: list[UpdateStatistics] = []
    drew = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for number_of_update in range(grpo.updates):
        # every update sees its share of the groups
        edges = [len(chosen) * n // grpo.updates for n in (number_of_update, number_of_update + 1)]
        groups, index = range(*edges), number * grpo.updates + number_of_update

        noised = noised_again(rollout, groups, grpo, generator) if grpo.algorithm == "nft" else None

        # from the second update on the policy has moved since it drew
        old_policy = partial(with_values, parameters, drew) if number_of_update else None

        def reward_gradient(
            size: int, groups: range = groups, noised: Noised | None = noised, old_policy: OldPolicy = old_policy
        ) -> UpdateStatistics:
            if noised is not None:
                forward_process_gradient(model, mine, noised, gains, grpo, parameters, old, size)
                return UpdateStatistics()
            return policy_gradient(model, mine, rollout, gains, groups, grpo, size, old_policy)

        told, norm = update(model, optimizer, list(parameters.values()), data, settings, index, reward_gradient, memory)
        statistics.append(told)
    if grpo.algorithm == "nft":
        move_old_policy(old, parameters, grpo.nft_decay)
    gaps = torch.cat([told.gaps for told in statistics]).abs()
    wait_for(model.device)
    seconds = time.perf_counter() - began
    return {
        "reward": rewards.mean().item(),
        "parts": {name: part.mean().item() for name, part in parts.items()},
        "flat_groups": flat.float().mean().item(),
        "sampling_gap_mean": gaps.mean().item() if len(gaps) else 0.0,
        "sampling_gap_max": gaps.max().item() if len(gaps) else 0.0,
        "log_ratio_deviation": statistics[-1].log_ratio_deviation,
        "clipped": statistics[-1].clipped,
        "gradient_norm": norm,
        "images_per_second": len(shown) / seconds,
        "rollout_seconds": drawn - began,
        "reward_seconds": judged - drawn,
        "update_seconds": began + seconds - judged,
    }, scales


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
) -> GrpoResult:  # fmt: skip
    """The second stage from the adapter as it stands, resuming from ``folder/last.safetensors``.

    ``folder/best.safetensors`` holds the adapter that did best on the held-out scenes; it is there only if one did
    better than the start. Stops early when the held-out pictures' flow loss rises by more than ``guard`` or when the
    reward on held-out scenes rises while the judges that no reward asks see less. Raises Interrupted, after a
    checkpoint, where ``stop`` was asked for.
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
    # the policy that draws, where it is not the one that learns
    old = {name: p.detach().clone() for name, p in parameters.items()} if grpo.algorithm == "nft" else {}
    if last.exists():
        number, notes = load_checkpoint(last, parameters, optimizer, old)
        measured = [HeldOutScenes(**line) for line in notes["measured"]]  # type: ignore[attr-defined]
        scales, drift_start, ended = notes["scales"], float(notes["drift_start"]), str(notes["ended"])  # type: ignore
        judged = bool(notes["judged"])
    else:
        # of a start that came to its first measurement, but to no checkpoint
        best_file.unlink(missing_ok=True)
        drift_start = flow_error(model, watched, settings.sft)
        measured = [measure_scenes(model, judges, held, 0, grpo.held_out_pictures)]
        hooks.on_held_out(measured[0], True)

    def save() -> None:
        notes = {
            "measured": [asdict(line) for line in measured], "scales": scales, "drift_start": drift_start,
            "ended": ended, "judged": judged,
        }  # fmt: skip
        save_checkpoint(last, parameters, optimizer, number, notes, old)

    with stop.saving(save):
        while (number < grpo.iterations and not ended) or not judged:
            if judged:
                if grpo.algorithm == "nft":
                    # while it draws, the adapter holds the values of the old policy
                    stop.changing()
                values, scales = iterate(
                    model, optimizer, parameters, old, data, train, prompts, judges, settings, number, scales, memory
                )
                number, judged = number + 1, False
                guard = flow_error(model, watched, settings.sft) / drift_start
                log = IterationLog(iteration=number, guard=guard, **values)  # type: ignore[arg-type]
                hooks.on_iteration(log)
                if log.sampling_gap_max > grpo.clip_range and not warned:
                    hooks.on_note(gap_warning(log, grpo))
                    warned = True
                if guard > 1 + grpo.guard:
                    ended = f"flow loss on pictures of the character rose by {100 * (guard - 1):.0f} %"
                stop.settled()
            if number % grpo.preview_every == 0:
                hooks.on_preview(number)
            due = number % grpo.evaluate_every == 0 or number == grpo.iterations or ended
            line = measure_scenes(model, judges, held, number, grpo.held_out_pictures) if due else None
            if line is not None:
                flow = flow_error(model, watched, settings.sft) / drift_start
                line = replace(line, flow=flow, drifted=flow > 1 + grpo.guard)
            stop.changing()
            if line is not None:
                measured.append(line)
                is_best = best_so_far(measured) is line
                hooks.on_held_out(line, is_best)
                if is_best:
                    save_checkpoint(best_file, adapter, optimizer, number, {})
                if hacked(measured, grpo.patience):
                    ended = "the reward on held-out scenes rose while the judges that it does not ask saw less"
            judged = True
            if number % grpo.checkpoint_every == 0 or number == grpo.iterations or ended:
                save()
            stop.settled()
    return GrpoResult(measured[0], best_so_far(measured), number, ended or "all iterations")
