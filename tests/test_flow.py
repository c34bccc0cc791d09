"""The sampler's steps against closed forms, and the published formulas against their text."""

from __future__ import annotations

import math

import pytest
import torch

from charforge.families.bagel.sampler import timestep_schedule
from charforge.flow import cps_step, interpolate, log_probability, ode_step, sde_step, target_velocity

ROWS, TOKENS, VALUES = 3, 5, 4


def draw(seed: int) -> torch.Tensor:
    return torch.randn(ROWS, TOKENS, VALUES, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("now", "after"), [(1.0, 0.9), (0.8, 0.3), (0.2, 0.0)])
def test_a_perfect_velocity_leads_along_the_line(now: float, after: float):
    x0, noise = draw(0), draw(1)
    t, end = torch.full((ROWS,), now), torch.full((ROWS,), after)
    x = interpolate(x0, noise, t[:, None].expand(ROWS, TOKENS))
    expected = interpolate(x0, noise, end[:, None].expand(ROWS, TOKENS))
    torch.testing.assert_close(ode_step(x, target_velocity(x0, noise), t, end), expected)
    mean, deviation = cps_step(x, target_velocity(x0, noise), t, end, 0.0)
    torch.testing.assert_close(mean, expected)
    assert deviation.abs().max() == 0


@pytest.mark.parametrize("noise_level", [0.3, 0.8, 1.0])
@pytest.mark.parametrize(("now", "after"), [(1.0, 0.9), (0.7, 0.4)])
def test_the_coefficient_preserving_step_keeps_mean_and_variance_of_the_flow(now, after, noise_level):
    """Given x0, x_t has mean (1 - t) x0 and variance t^2 at every time, after the step as before it."""
    x0 = torch.full((1, 200, 500), 0.7)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    t, end = torch.tensor([now]), torch.tensor([after])
    x = (1 - now) * x0 + now * noise
    mean, deviation = cps_step(x, target_velocity(x0, noise), t, end, noise_level)
    fresh = torch.randn(x0.shape, generator=torch.Generator().manual_seed(4))
    moved = mean + deviation * fresh
    assert moved.mean().item() == pytest.approx((1 - after) * 0.7, abs=0.01)
    assert moved.var().item() == pytest.approx(after**2, rel=0.02)
    # in closed form: the variances of the two independent noises add up to after^2
    kept = after * math.cos(noise_level * math.pi / 2)
    assert kept**2 + deviation.item() ** 2 == pytest.approx(after**2)


def test_the_published_step_is_the_published_formula():
    x, v, a = draw(5), draw(6), 1.3
    grid = timestep_schedule(15, 3.0)
    for index in (0, 1, 6):
        t, end = float(grid[index]), float(grid[index + 1])
        delta = end - t
        sigma = a * math.sqrt(t / (1 - (float(grid[1]) if t == 1 else t)))
        expected = x * (1 + sigma**2 / (2 * t) * delta) + v * (1 + sigma**2 * (1 - t) / (2 * t)) * delta
        now, after = grid[index].expand(ROWS), grid[index + 1].expand(ROWS)
        mean, deviation = sde_step(x, v, now, after, a, float(grid[1]))
        torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)
        assert deviation.flatten().tolist() == pytest.approx([sigma * math.sqrt(-delta)] * ROWS, rel=1e-5)


def test_the_published_noise_is_larger_than_the_flow_near_pure_noise():
    """unicharacter.md 4.3 lists 1.30, 1.35, .97, .80, .70, .63, .58 for a = 1.3."""
    grid = timestep_schedule(15, 3.0)
    zero = torch.zeros(1, 1, 1)
    told = [
        sde_step(zero, zero, grid[i].expand(1), grid[i + 1].expand(1), 1.3, float(grid[1]))[1].item() for i in range(7)
    ]
    assert told == pytest.approx([1.30, 1.35, 0.97, 0.80, 0.70, 0.63, 0.58], abs=0.012)


def test_rows_may_be_at_different_times():
    x, v = draw(7), draw(8)
    now, after = torch.tensor([1.0, 0.8, 0.5]), torch.tensor([0.9, 0.7, 0.2])
    for step in (
        lambda x, v, t, e: cps_step(x, v, t, e, 0.8)[0],
        lambda x, v, t, e: sde_step(x, v, t, e, 0.7, 0.975)[0],
        ode_step,
    ):
        together = step(x, v, now, after)
        alone = [step(x[r : r + 1], v[r : r + 1], now[r : r + 1], after[r : r + 1]) for r in range(ROWS)]
        torch.testing.assert_close(together, torch.cat(alone))


def test_log_probability_is_that_of_the_normal_distribution():
    x, mean, deviation = draw(9), draw(10), torch.tensor([0.3, 1.0, 2.0])[:, None, None]
    expected = torch.distributions.Normal(mean, deviation).log_prob(x).mean(dim=(-2, -1))
    torch.testing.assert_close(log_probability(x, mean, deviation), expected)


def test_the_published_log_probability_differs_by_a_constant_that_no_ratio_sees():
    x, deviation = draw(11), torch.full((ROWS, 1, 1), 0.6)
    old, new = draw(12), draw(13)
    published = [-((x - mean).pow(2) / (2 * 0.6**2)).mean(dim=(-2, -1)) for mean in (old, new)]
    ours = [log_probability(x, mean, deviation) for mean in (old, new)]
    torch.testing.assert_close(ours[1] - ours[0], published[1] - published[0], rtol=1e-4, atol=1e-5)
