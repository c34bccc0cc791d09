"""The policy gradient of the second stage: ratios, batches, what is paid for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from official import quantize_decoder
from rollouts import lively, rollout_of, run
from tiny import tiny_model
from tiny_base import grpo_settings

from charforge.adapter.lora import with_values
from charforge.errors import MachineError
from charforge.judges.judges import advantages
from charforge.settings import Settings
from charforge.train import grpo
from charforge.train.grpo import (
    learn_from,
    taken_gradient,
)
from charforge.train.policy_gradient import UpdateStatistics, importance_weights, log_probabilities, policy_gradient

# the policy gradient


@pytest.fixture
def products_depend_on_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on processors with matrix tiles: what a row becomes depends on how many rows there are beside it."""

    def forward(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        rows = x.numel() // x.shape[-1]
        return torch.nn.functional.linear(x, self.weight, self.bias) * (1 + 1e-3 * (rows % 7))

    monkeypatch.setattr(torch.nn.Linear, "forward", forward)


def ratios_off_one(settings: Settings, precision: str, moved: bool = False) -> UpdateStatistics:
    """What one update says before any step; ``moved``: as a later update, by the weights that were set aside."""
    model = tiny_model(dtype=torch.bfloat16 if precision != "float32" else torch.float32)
    if precision == "int8":
        quantize_decoder(model.network, "int8")
    parameters = learn_from(model, lively(model))
    drew = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=precision != "float32"):
        rollout, prompts = rollout_of(model, settings)
        gains = torch.randn(8, generator=torch.Generator().manual_seed(0))
        # a micro-batch of 3 does not divide the groups of 4: other batches, other rows beside each other
        old_policy = partial(with_values, parameters, drew) if moved else None
        return policy_gradient(model, prompts, rollout, gains, range(2), settings.grpo, 3, old_policy)


# every ratio that is not 1 to the bit is outside this range
NARROW = 1e-12


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("noise", ["cps", "sde"])
def test_the_ratio_is_exactly_one_before_any_step(noise: str, precision: str, moved: bool):
    told = ratios_off_one(grpo_settings(noise=noise, noise_level=0.8, clip_range=NARROW), precision, moved)
    assert (told.clipped, told.log_ratio_deviation) == (0.0, 0.0)
    # sampling went in other batches: as near as the precision lets it
    assert told.gaps.abs().max() < {"float32": 1e-5, "bfloat16": 0.05, "int8": 0.05}[precision]


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_ratio_is_one_where_products_depend_on_the_batch_and_the_gap_is_told(
    products_depend_on_rows: None, precision: str, moved: bool
):
    told = ratios_off_one(grpo_settings(clip_range=NARROW), precision, moved)
    assert (told.clipped, told.log_ratio_deviation) == (0.0, 0.0)
    assert told.gaps.abs().max() > 1e-4


def test_a_run_goes_on_where_products_depend_on_the_batch(products_depend_on_rows: None, tmp_path: Path):
    notes: list[str] = []
    result, logs, _ = run(tmp_path, grpo_settings(), tell=notes.append)
    assert result.iterations == 3 and result.ended == "all iterations"
    assert all(0 < log.sampling_gap_mean < log.sampling_gap_max for log in logs)
    (note,) = notes
    assert "grpo.importance_cap = 2" in note and "goes on" in note


def test_a_batch_that_shrinks_in_a_later_update_is_compared_with_batches_of_its_own_size(
    products_depend_on_rows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sizes: list[int] = []

    def short_of_memory(model, prompts, rollout, gains, groups, grpo, size, old_policy, team):
        sizes.append(size)
        if old_policy is not None and size > 3:
            raise torch.OutOfMemoryError("pretend")
        return policy_gradient(model, prompts, rollout, gains, groups, grpo, size, old_policy, team)

    monkeypatch.setattr(grpo, "policy_gradient", short_of_memory)
    # the rate is too small to move a weight: every ratio is 1, were it not for the batches
    _, logs, _ = run(tmp_path, grpo_settings(iterations=1, learning_rate=1e-30, clip_range=NARROW))
    assert sizes == [8, 8, 4, 2]
    assert (logs[0].clipped, logs[0].log_ratio_deviation) == (0.0, 0.0)
    assert logs[0].sampling_gap_max > 0


def test_other_weights_act_even_where_autocast_has_kept_a_copy_of_the_present_ones():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    with torch.autocast("cpu", torch.bfloat16):
        before = torch.nn.functional.linear(torch.ones(1, 2), weight)
        with torch.no_grad(), with_values({"w": weight}, {"w": torch.zeros(2, 2)}):
            inside = torch.nn.functional.linear(torch.ones(1, 2), weight)
        after = torch.nn.functional.linear(torch.ones(1, 2), weight)
    assert (before == 2).all() and (inside == 0).all() and (after == 2).all()
    after.sum().backward()
    assert weight.grad is not None


def test_importance_weights_are_ratios_up_to_the_cap_and_off_by_default():
    gaps = torch.tensor([0.0, 0.5, 3.0, -1.0])
    torch.testing.assert_close(
        importance_weights(gaps, 2.0), torch.tensor([1.0, 1.6487, 2.0, 0.3679]), atol=1e-4, rtol=0
    )
    assert importance_weights(gaps, grpo_settings().grpo.importance_cap).tolist() == [1.0] * 4


def test_importance_weights_weigh_the_gradient(products_depend_on_rows: None):
    gains = torch.randn(8, generator=torch.Generator().manual_seed(0))
    plain, capped = gradient(3, gains), gradient(3, gains, importance_cap=0.25)
    torch.testing.assert_close(capped, 0.25 * plain, rtol=1e-4, atol=1e-8)


def gradient(micro_batch: int, gains: torch.Tensor, **changes: object) -> torch.Tensor:
    model, settings = tiny_model(), grpo_settings(**changes)
    parameters = list(learn_from(model, lively(model)).values())
    rollout, prompts = rollout_of(model, settings)
    policy_gradient(model, prompts, rollout, gains, range(2), settings.grpo, micro_batch)
    return torch.cat([p.grad.flatten() for p in parameters])


def test_micro_batches_change_nothing():
    gains = torch.randn(8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gradient(8, gains), gradient(3, gains), rtol=1e-3, atol=1e-7)


def test_the_gradient_raises_the_probability_of_what_was_good():
    model, settings = tiny_model(), grpo_settings()
    parameters = list(learn_from(model, lively(model)).values())
    rollout, prompts = rollout_of(model, settings)
    gains = torch.tensor([1.0, 1.0, -1.0, -1.0] * 2)
    policy_gradient(model, prompts, rollout, gains, range(2), settings.grpo, 8)
    with torch.no_grad():
        for parameter in parameters:
            parameter -= 0.02 * parameter.grad / parameter.grad.norm().clamp(min=1e-9)
            parameter.grad = None

    def now(step) -> torch.Tensor:
        rows = (step.rows // settings.grpo.group).tolist()
        denoiser = model.denoiser(prompts.select(rows), model.canvas())
        second = float(model.times(settings.grpo.steps, settings.grpo.timestep_shift)[1])
        with torch.no_grad():
            return log_probabilities(denoiser, step, torch.arange(len(rows)), settings.grpo, second)

    change = sum(((now(step) - step.log_probability) * gains[step.rows]).sum().item() for step in rollout.steps)
    assert change > 0


def test_a_group_without_differences_gives_no_gradient():
    gains, flat = advantages(torch.tensor([0.4] * 4 + [0.1, 0.2, 0.3, 0.4]), 4, 5.0)
    assert gains[:4].tolist() == [0.0] * 4
    assert flat.tolist() == [True, False]
    assert gains[4:].mean().item() == pytest.approx(0, abs=1e-6)
    assert gradient(8, torch.zeros(8)).abs().max() == 0


def test_gradients_are_taken_off_and_of_length_one():
    parameters = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))]
    parameters[0].grad = torch.tensor([3.0, 0.0, 4.0])
    taken = taken_gradient(parameters)
    assert torch.cat(taken).norm().item() == pytest.approx(1)
    assert parameters[0].grad is None
    parameters[0].grad = torch.full((3,), torch.nan)
    with pytest.raises(MachineError, match="learning_rate"):
        taken_gradient(parameters)


def test_groups_of_fewer_than_four_are_refused():
    with pytest.raises(ValueError, match="greater than or equal to 4"):
        grpo_settings(group=3)
