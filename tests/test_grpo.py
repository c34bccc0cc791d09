"""The second stage on a tiny random base: rollouts, the policy gradient, the loop, its guards, resuming."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rollouts import TRAIN, lively, prompts_of, rollout_of, run
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import tiny_model
from tiny_base import grpo_settings

from charforge.bases.drawing import read_prompts
from charforge.errors import Interrupted
from charforge.families.bagel.unified import TrainingDenoiser
from charforge.flow import ode_step
from charforge.judges.judges import advantages
from charforge.train import grpo
from charforge.train.forward_process import forward_process_gradient, negative_aware_loss, optimality
from charforge.train.grpo import (
    learn_from,
)
from charforge.train.held_out_scenes import HeldOutScenes, best_so_far, hacked
from charforge.train.interrupt import Interruption
from charforge.train.noised import noised_again
from charforge.train.rollout import draw_groups, roll_out

# rollouts


def test_siblings_differ_and_share_everything_before_their_window():
    model, settings = tiny_model(), grpo_settings()
    rollout, _ = rollout_of(model, settings)
    groups, size = settings.grpo.prompts, settings.grpo.group
    assert rollout.latents.shape == (groups * size, 16, 16)
    for group in range(groups):
        own = rollout.latents[group * size : (group + 1) * size]
        assert len({tuple(x.flatten().tolist()) for x in own}) == size
        first = min(
            (step for step in rollout.steps if group * size in step.rows.tolist()), key=lambda step: -float(step.now[0])
        )
        mine = first.before[[k for k, row in enumerate(first.rows.tolist()) if row // size == group]]
        assert (mine == mine[:1]).all()


def test_every_picture_has_exactly_its_window_of_stochastic_steps():
    model, settings = tiny_model(), grpo_settings()
    rollout, _ = rollout_of(model, settings, seed=3)
    times = model.times(settings.grpo.steps, settings.grpo.timestep_shift)
    for row in range(len(rollout.latents)):
        mine = [float(step.now[k]) for step in rollout.steps for k, r in enumerate(step.rows.tolist()) if r == row]
        start = rollout.starts[row // settings.grpo.group]
        assert mine == pytest.approx(times[start : start + settings.grpo.window].tolist())


def test_the_shared_start_is_the_plain_path_to_the_window():
    model, settings = tiny_model(), grpo_settings(prompts=1, updates=1, window_last_start=2)
    seed = next(s for s in range(20) if rollout_of(model, settings, s)[0].starts == [2])
    rollout, prompts = rollout_of(model, settings, seed)
    generator = torch.Generator().manual_seed(seed)
    torch.randint(0, 3, (1,), generator=generator)
    x = torch.randn(1, 16, 16, generator=generator)
    denoiser = model.denoiser(prompts, model.canvas())
    times = model.times(settings.grpo.steps, settings.grpo.timestep_shift)
    for index in range(2):
        with torch.no_grad():
            x = ode_step(x, denoiser.velocity(x, times[index].expand(1)), times[index], times[index + 1])
    torch.testing.assert_close(rollout.steps[0].before[:1], x)


def test_the_same_generator_gives_the_same_rollout_and_nothing_else_is_drawn_from():
    model, settings = tiny_model(), grpo_settings()
    state = torch.random.get_rng_state()
    one, other = rollout_of(model, settings)[0], rollout_of(model, settings)[0]
    assert (one.latents == other.latents).all()
    assert (torch.random.get_rng_state() == state).all()


@pytest.mark.parametrize("at_a_time", [1, 3, None])
def test_a_rollout_passes_as_many_pictures_at_a_time_as_it_is_told(monkeypatch, at_a_time):
    model, settings = tiny_model(), grpo_settings(group=4)
    whole, prompts = rollout_of(model, settings)
    passed: list[int] = []

    velocity = TrainingDenoiser.velocity

    def counted(denoiser, states, times):
        passed.append(len(states))
        return velocity(denoiser, states, times)

    monkeypatch.setattr(TrainingDenoiser, "velocity", counted)
    generator = torch.Generator().manual_seed(0)
    parts = roll_out(model, prompts, model.canvas(), settings.grpo, generator, at_a_time)
    assert max(passed) == (at_a_time or settings.grpo.prompts * settings.grpo.group)
    torch.testing.assert_close(parts.latents, whole.latents)


# the loop


def test_a_run_is_logged_and_only_the_drawing_expert_learns(tmp_path: Path):
    result, logs, parameters = run(tmp_path, grpo_settings())
    assert result.iterations == 3 and result.ended == "all iterations"
    assert [log.iteration for log in logs] == [1, 2, 3]
    assert all(0 <= log.sampling_gap_mean <= log.sampling_gap_max < 1e-4 for log in logs)
    assert set(logs[0].parts) == {"scene", "identity", "copying", "variety"}
    start = lively(tiny_model())
    assert any((p != start[name]).any() for name, p in parameters.items() if "_moe_gen" in name)


@pytest.mark.parametrize("algorithm", ["grpo", "nft", "awm", "best_of"])
def test_interrupted_and_resumed_equals_one_that_was_not(tmp_path: Path, algorithm: str):
    settings = grpo_settings(algorithm=algorithm, iterations=4)
    run(tmp_path / "whole", settings)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", settings, stop_at=3)
    run(tmp_path / "cut", settings)
    whole, cut = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "cut"))
    # evaluations fall on other iterations where a run ends, so only what was trained is compared
    assert whole.keys() == cut.keys()
    assert all((whole[name] == cut[name]).all() for name in whole)


def test_how_often_it_previews_and_saves_changes_no_bit(tmp_path: Path):
    for every in (1, 3):
        run(tmp_path / str(every), grpo_settings(preview_every=every, checkpoint_every=every))
    one, other = (load_file(tmp_path / name / "last.safetensors") for name in ("1", "3"))
    assert all((one[name] == other[name]).all() for name in one)


@pytest.mark.parametrize("algorithm", ["grpo", pytest.param("nft", marks=pytest.mark.slow), "best_of"])
@pytest.mark.parametrize("when", ["drawn", "learned", "previewed"])
def test_a_signal_in_an_iteration_saves_a_whole_state_and_the_run_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, when: str
):
    # patience: a tiny base gains nothing, and whether its reward pretends so is chance
    settings = grpo_settings(
        algorithm=algorithm, iterations=3, preview_every=1, evaluate_every=1, checkpoint_every=100, patience=9
    )
    run(tmp_path / "whole", settings)
    iteration = 0

    def asked(moment: str) -> None:
        if moment == when and iteration == 2:
            signal.raise_signal(signal.SIGTERM)

    def watched(draw):
        def drawn(*arguments):
            nonlocal iteration
            iteration += 1
            result = draw(*arguments)
            asked("drawn")
            return result

        return drawn

    monkeypatch.setattr(grpo, "roll_out", watched(roll_out))
    monkeypatch.setattr(grpo, "draw_groups", watched(draw_groups))
    with Interruption() as stop, pytest.raises(Interrupted):
        run(
            tmp_path / "cut", settings, stop=stop,
            on_log=lambda log: asked("learned"), on_preview=lambda number: asked("previewed"),
        )  # fmt: skip
    monkeypatch.undo()
    _, logs, _ = run(tmp_path / "cut", settings)
    assert [log.iteration for log in logs] == [3]
    for name in ("last", "best"):
        whole, cut = (tmp_path / folder / f"{name}.safetensors" for folder in ("whole", "cut"))
        assert whole.exists() == cut.exists()
        if whole.exists():
            whole, cut = load_file(whole), load_file(cut)
            assert all((whole[key] == cut[key]).all() for key in whole)
    told = [
        json.loads(safe_open(tmp_path / f / "last.safetensors", "pt").metadata()["notes"]) for f in ("whole", "cut")
    ]
    assert told[0] == told[1]


def test_the_guard_stops_a_run_that_drifts(tmp_path: Path):
    result, _, _ = run(tmp_path, grpo_settings(guard=1e-6, iterations=20, learning_rate=0.05, anchor=0.0))
    assert result.iterations < 20
    assert "flow loss" in result.ended
    # what ended the stage is not what is kept, and not what is told of
    assert result.best.iteration < result.iterations and not result.best.drifted
    assert not (tmp_path / "best.safetensors").exists() or result.best.iteration > 0
    again, logs, _ = run(tmp_path, grpo_settings(guard=1e-6, iterations=20, learning_rate=0.05, anchor=0.0))
    assert logs == [] and again.ended == result.ended


def line(iteration: int, proxy: float, gold: float, identity: float = 0.8) -> HeldOutScenes:
    return HeldOutScenes(iteration, proxy, gold, {}, identity, identity, 0.0)


def test_reward_hacking_is_seen():
    honest = [line(0, 0.5, 0.5), line(1, 0.6, 0.6), line(2, 0.7, 0.65)]
    assert not hacked(honest, 2)
    gamed = [line(0, 0.5, 0.5), line(1, 0.6, 0.6), line(2, 0.7, 0.55), line(3, 0.8, 0.5)]
    assert hacked(gamed, 2) and not hacked(gamed[:3], 2)
    assert best_so_far(gamed).iteration == 1


def test_a_better_scene_without_the_character_is_not_better():
    assert best_so_far([line(0, 0.5, 0.5, 0.8), line(1, 0.6, 0.55, 0.6)]).iteration == 0


def test_a_better_scene_that_copies_or_forgets_is_not_better():
    start, better = line(0, 0.5, 0.5), line(1, 0.6, 0.55)
    assert best_so_far([start, better]) is better
    assert best_so_far([start, replace(better, copy_rate=0.25)]) is start
    assert best_so_far([start, replace(better, flow=1.2)]) is start
    assert best_so_far([start, replace(better, gold=0.99, drifted=True)]) is start
    # fewer copies and a lower loss are no merit of their own
    assert best_so_far([replace(start, copy_rate=0.5), replace(start, iteration=1, gold=0.49, flow=0.5)]).iteration == 0


# the alternative


def test_at_its_start_the_forward_process_loss_pulls_towards_good_and_away_from_bad():
    generator = torch.Generator().manual_seed(0)
    x0, noise, old = (torch.randn(2, 4, 16, generator=generator) for _ in range(3))
    t = torch.tensor([0.5, 0.5])
    x_t = 0.5 * x0 + 0.5 * noise
    predicted = old.clone().requires_grad_(True)
    good = torch.tensor([1.0, 0.0])
    negative_aware_loss(predicted, old, x_t, x0, t, good, beta=1.0).sum().backward()
    towards_data = (noise - x0) - old
    assert (-predicted.grad[0] * towards_data[0]).sum() > 0
    assert (-predicted.grad[1] * towards_data[1]).sum() < 0
    predicted.grad = None
    negative_aware_loss(predicted, old, x_t, x0, t, torch.tensor([0.5, 0.5]), beta=1.0).sum().backward()
    assert predicted.grad.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_forward_process_learns_beside_the_policy_that_drew_in_every_precision(dtype: torch.dtype):
    model, settings = tiny_model(dtype=dtype), grpo_settings(algorithm="nft")
    parameters = learn_from(model, lively(model))
    old = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        rollout, prompts = rollout_of(model, settings)
        owners = [row // 4 for row in range(8)]
        noised = noised_again(
            rollout.latents, range(8), prompts, owners, rollout.canvas, settings.grpo, torch.Generator().manual_seed(0)
        )
        gains = torch.randn(8, generator=torch.Generator().manual_seed(0))
        forward_process_gradient(model, noised, gains, settings.grpo, parameters, old, 4)
    assert all(parameter.grad is not None for parameter in parameters.values())
    assert sum(parameter.grad.norm() for parameter in parameters.values()) > 0


def test_optimality_is_half_for_the_mean_of_the_group():
    assert optimality(torch.tensor([0.0, 3.0, -3.0, 0.5])).tolist() == [0.5, 1.0, 0.0, 0.75]


def test_prompts_of_different_lengths_read_together_are_as_read_alone():
    model = tiny_model()
    x = torch.randn(len(TRAIN), 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        all_rows = model.denoiser(prompts_of(model, 3), model.canvas()).velocity(x, torch.full((3,), 0.7))
        for row, scene in enumerate(TRAIN):
            alone = model.denoiser(read_prompts(model, [scene.prompt]), model.canvas())
            drawn = alone.velocity(x[row : row + 1], torch.tensor([0.7]))[0]
            torch.testing.assert_close(drawn, all_rows[row], atol=1e-4, rtol=1e-4)


def test_the_published_variety_has_no_gradient_and_ours_has():
    from charforge.judges.published import group_diversity
    from charforge.judges.rewards.variety import leave_one_out_variety

    features = torch.nn.functional.normalize(torch.rand(12, 9, generator=torch.Generator().manual_seed(0)), dim=-1)
    scene = torch.rand(12, generator=torch.Generator().manual_seed(1))
    grouped = features.view(3, 4, 9)
    published = group_diversity(1 - grouped @ grouped.transpose(1, 2))
    ours = leave_one_out_variety(features, 4, torch.ones(12, dtype=torch.bool))
    without, _ = advantages(scene, 4, 5.0)
    torch.testing.assert_close(advantages(scene + 0.3 * published, 4, 5.0)[0], without, atol=1e-4, rtol=1e-4)
    assert (advantages(scene + 0.3 * ours, 4, 5.0)[0] - without).abs().max() > 0.01
