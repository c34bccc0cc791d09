"""What makes the second stage cheaper, and the ways of learning that take the first stage's own loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from rollouts import lively, rollout_of, run
from safetensors.torch import load_file
from tiny import tiny_model
from tiny_base import grpo_settings

from charforge.errors import InputError
from charforge.flow import interpolate, ode_step, target_velocity
from charforge.train.grpo import learn_from
from charforge.train.matching import (
    DRAWN,
    LATENTS,
    flow_errors,
    keep_best,
    kept_scenes,
    matching_gradient,
    matching_weights,
    nothing_kept,
)
from charforge.train.noised import noised_again
from charforge.train.policy_gradient import policy_gradient, step_weights
from charforge.train.rollout import Step, draw_groups, group_times, learned_rows

GRID = torch.tensor([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])

# a short tail


@pytest.mark.parametrize(
    ("start", "tail", "expected"),
    [
        (2, 0, GRID.tolist()),
        (2, 3, [1.0, 0.9, 0.8, 0.7, 0.6, 0.4, 0.2, 0.0]),
        (0, 1, [1.0, 0.9, 0.8, 0.0]),
        # no more than the grid has
        (6, 5, GRID.tolist()),
    ],
)
def test_only_the_steps_after_the_window_become_coarser(start: int, tail: int, expected: list[float]):
    settings = grpo_settings(steps=10, window=2, window_last_start=7, tail=tail).grpo
    assert group_times(GRID, start, settings).tolist() == pytest.approx(expected)


def test_groups_that_end_early_are_drawn_as_alone_and_cost_less():
    model, settings = tiny_model(), grpo_settings(steps=6, window=1, window_last_start=3, tail=1)
    seed = next(s for s in range(40) if sorted(rollout_of(model, settings, s)[0].starts) == [0, 3])
    (rollout, prompts), canvas = rollout_of(model, settings, seed), model.canvas()
    size, grid = settings.grpo.group, model.times(6, settings.grpo.timestep_shift)
    # two steps of siblings after the first; three of one row, then two of siblings
    assert rollout.forwards == 2 * size + 3 + 2 * size
    assert rollout.forwards < rollout_of(model, grpo_settings(steps=6, window=1, window_last_start=3), seed)[0].forwards
    for group, start in enumerate(rollout.starts):
        denoiser = model.denoiser(prompts.select([group] * size), canvas)
        step = next(step for step in rollout.steps if group * size in step.rows.tolist())
        after = step.after[[k for k, row in enumerate(step.rows.tolist()) if row // size == group]]
        now, end = grid[start + 1].expand(size), grid[6].expand(size)
        with torch.no_grad():
            ends = ode_step(after, denoiser.velocity(after, now), now, end)
        torch.testing.assert_close(rollout.latents[group * size : (group + 1) * size], ends)


# which pictures and steps teach


def test_the_best_and_the_worst_of_each_group_are_learned_from():
    gains = torch.tensor([0.1, -1.0, 1.5, -0.6, 0.0, 2.0, -2.0, 0.3])
    settings = grpo_settings(extremes=1).grpo
    assert learned_rows(gains, range(2), settings) == [1, 2, 5, 6]
    assert learned_rows(gains, range(1, 2), settings) == [5, 6]
    assert learned_rows(gains, range(1, 2), grpo_settings().grpo) == [4, 5, 6, 7]
    with pytest.raises(ValidationError, match="must not be more than half of group"):
        grpo_settings(group=4, extremes=3)


def test_pictures_in_the_middle_have_no_part_in_the_gradient():
    model = tiny_model()
    parameters = learn_from(model, lively(model))
    gains = torch.tensor([1.0, 0.2, -0.2, -1.0, 1.0, 0.2, -0.2, -1.0])
    found = []
    for settings, own in (
        (grpo_settings(extremes=1), gains),
        # the same, said with advantages of zero; the mean is then over twice as many
        (grpo_settings(), 2 * torch.where(gains.abs() > 0.5, gains, 0.0)),
    ):
        rollout, prompts = rollout_of(model, settings)
        told = policy_gradient(model, prompts, rollout, own, range(2), settings.grpo, 8)
        found.append(torch.cat([parameter.grad.flatten() for parameter in parameters.values()]))
        for parameter in parameters.values():
            parameter.grad = None
    assert len(told.gaps) == 2 * 8
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-6)


def test_a_step_counts_as_much_as_the_noise_that_it_adds():
    model, settings = tiny_model(), grpo_settings(window=2, noise="cps", noise_level=0.5)
    rollout, _ = rollout_of(model, settings)
    step: Step = rollout.steps[0]
    assert step_weights(step, "even").tolist() == [1.0] * len(step.rows)
    # of a coefficient-preserving step it is in proportion to the time at which the step ends
    ratio = step_weights(step, "noise") / step.end
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.5**0.5))


# smaller pictures to learn from


def test_pictures_of_half_the_side_are_drawn_judged_and_learned_from(tmp_path: Path):
    model = tiny_model()
    usual, half = model.canvas(), model.canvas(8)
    assert (usual.shape[0], half.shape[0]) == (16, 4) and model.canvas().shape == usual.shape
    _, logs, _ = run(tmp_path, grpo_settings(side=8, iterations=1, updates=1))
    assert logs[0].gradient_norm > 0 and set(logs[0].parts) == {"scene", "identity", "copying", "variety"}


def test_a_side_that_the_base_does_not_draw_is_named():
    with pytest.raises(
        InputError, match=r"10 pixels a side \(pictures.draw_side, grpo.side\): this base draws multiples"
    ):
        tiny_model().canvas(10)


# the first stage's loss on judged pictures


def test_advantages_below_zero_count_for_their_share():
    gains = torch.tensor([2.0, -2.0, 0.0, -0.5])
    assert matching_weights(gains, 0.5).tolist() == [2.0, -1.0, 0.0, -0.25]
    assert matching_weights(gains, 1.0).tolist() == gains.tolist()
    assert matching_weights(gains, 0.0).tolist() == [2.0, 0.0, 0.0, 0.0]


def test_the_gradient_is_that_of_weighted_flow_errors_in_pieces_of_any_size():
    model, settings = tiny_model(), grpo_settings(draws=2)
    parameters = learn_from(model, lively(model))
    generator = torch.Generator().manual_seed(3)
    rollout, prompts = rollout_of(model, settings)
    weights, rows = torch.tensor([1.0, 0.0, -0.5, 0.0, 0.0, 2.0, 0.0, 0.0]), [0, 2, 5]
    noised = noised_again(
        rollout.latents, rows, prompts, [row // 4 for row in rows], rollout.canvas, settings.grpo, generator
    )
    assert noised.rows == [0, 0, 2, 2, 5, 5] and noised.owners == [0, 0, 0, 0, 1, 1]
    found = []
    for size in (1, 4, 6):
        matching_gradient(model, noised, weights, size)
        found.append(torch.cat([parameter.grad.flatten() for parameter in parameters.values()]))
        for parameter in parameters.values():
            parameter.grad = None
    x_t = interpolate(noised.x0, noised.noise, noised.times[:, None].expand(-1, noised.x0.shape[1]))
    predicted = model.denoiser(prompts.select(noised.owners), rollout.canvas).velocity(x_t, noised.times)
    errors = (predicted - target_velocity(noised.x0, noised.noise)).pow(2).mean((1, 2))
    torch.testing.assert_close(flow_errors(predicted, noised.x0, noised.noise), errors)
    ((weights[noised.rows] * errors).sum() / 6).backward()
    found.append(torch.cat([parameter.grad.flatten() for parameter in parameters.values()]))
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-4, atol=1e-6)


def test_learning_from_a_good_picture_makes_it_likelier_and_from_a_bad_one_less_likely():
    settings = grpo_settings(draws=2)
    changes = []
    for weight in (1.0, -1.0):
        model = tiny_model()
        parameters = learn_from(model, lively(model))
        rollout, prompts = rollout_of(model, settings)
        noised = noised_again(
            rollout.latents, [0], prompts, [0], rollout.canvas, settings.grpo, torch.Generator().manual_seed(0)
        )

        def error(model=model, noised=noised) -> float:
            with torch.no_grad():
                return sum(
                    flow_errors(piece.denoiser(model).velocity(piece.x_t, piece.times), piece.x0, piece.noise).sum()
                    for piece in noised.pieces(model, 2)
                ).item()

        before = error()
        matching_gradient(model, noised, torch.tensor([weight]), 2)
        for parameter in parameters.values():
            parameter.data -= 1e-3 * parameter.grad / max(parameter.grad.norm().item(), 1e-9)
        changes.append(error() - before)
    assert changes[0] < 0 < changes[1]


def test_the_best_of_each_group_is_kept_until_its_scene_is_drawn_again():
    kept = nothing_kept(4, (2, 3))
    latents = torch.arange(8.0)[:, None, None].expand(8, 2, 3)
    keep_best(kept, [3, 1], latents, torch.tensor([0.1, 0.9, 0.2, 0.3, 5.0, 6.0, 7.0, 4.0]), 4)
    assert kept[DRAWN].tolist() == [False, True, False, True]
    assert kept[LATENTS][3, 0, 0] == 1.0 and kept[LATENTS][1, 0, 0] == 6.0
    assert sorted(kept_scenes(kept, 4, 0, 0)) == [1, 1, 3, 3]
    keep_best(kept, [3], latents[:4], torch.tensor([9.0, 0.0, 0.0, 0.0]), 4)
    assert kept[LATENTS][3, 0, 0] == 0.0


def test_pictures_without_stochastic_steps_have_noise_of_their_own():
    model, settings = tiny_model(), grpo_settings()
    _, prompts = rollout_of(model, settings)
    drawn = [
        draw_groups(model, prompts, model.canvas(), settings.grpo, torch.Generator().manual_seed(0), size, 1.0)
        for size in (None, 3)
    ]
    assert drawn[0].steps == [] and drawn[0].latents.shape == (8, 16, 16)
    assert len({tuple(row.flatten().tolist()) for row in drawn[0].latents}) == 8
    torch.testing.assert_close(drawn[0].latents, drawn[1].latents)


@pytest.mark.parametrize("algorithm", ["awm", "best_of"])
def test_only_the_drawing_expert_learns_by_the_first_stages_loss(tmp_path: Path, algorithm: str):
    result, logs, parameters = run(tmp_path, grpo_settings(algorithm=algorithm, negative_share=0.0))
    assert result.iterations == 3 and all(log.gradient_norm > 0 for log in logs)
    start = lively(tiny_model())
    assert any((p != start[name]).any() for name, p in parameters.items() if "_moe_gen" in name)
    saved = load_file(tmp_path / "last.safetensors")
    assert (f"other.{LATENTS}" in saved) == (algorithm == "best_of")
