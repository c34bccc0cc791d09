"""What more steps would bring: on curves whose continuation is known, and on curves of real runs."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charforge.cli.output import more_steps
from charforge.cli.watch import watch_line
from charforge.run.forecast import CERTAINTY, NOISE, Outlook, continued, outlook
from charforge.run.listing import run_line
from charforge.run.report import held_out_in_words
from charforge.settings import SftSettings
from charforge.train.schedule import learned_by, rate_factor

SETTINGS = SftSettings(steps=100, warmup=10)


def measured(scores: dict[int, float | None]) -> list[dict[str, object]]:
    """Lines of metrics, the best marked as training marks it."""
    lines: list[dict[str, object]] = []
    lowest = math.inf
    for step, score in scores.items():
        lowest = lowest if score is None else min(lowest, score)
        lines.append({"kind": "held_out", "step": step, "score": score, "best": score is None or score <= lowest})
    return lines


def of_curve(curve: dict[int, float | None], settings: SftSettings = SETTINGS) -> Outlook:
    return outlook(measured(curve), settings)


def falling(step: int, floor: float, slowness: float) -> float:
    """Down from 1, in a run of 100 steps."""
    return floor + (1 - floor) * math.exp(-learned_by(step, 10, 100) / slowness)


def test_rates_add_up_to_what_was_learned():
    assert learned_by(3, 10, 100) == pytest.approx(sum(rate_factor(step, 10, 100) for step in range(3)))
    # a run that is twice as long has learned twice as much, but for its warm-up
    assert learned_by(200, 10, 200) == pytest.approx(2 * learned_by(100, 10, 100), rel=0.03)


def drawn(chance: random.Random, kind: str, count: int) -> tuple[list[tuple[float, float]], float]:
    """``count`` noisy points of a curve that falls from 1 between 0 and 1, and its value at 2 with noise of its own."""
    floor = chance.uniform(0.5, 0.9)
    rate, power = 10 ** chance.uniform(0, 1.5), chance.choice((0.3, 0.6, 1.0))

    def true(x: float) -> float:
        shape = math.exp(-x * rate / 3) if kind == "exponential" else (1 + rate * x) ** -power
        return floor + (1 - floor) * shape

    places = [number / (count - 1) for number in range(count)]
    return [(x, true(x) + chance.gauss(0, NOISE)) for x in places], true(2.0) + chance.gauss(0, NOISE)


@pytest.mark.parametrize("kind", ["exponential", "power"])
@pytest.mark.parametrize("count", [5, 12])
def test_the_range_holds_the_value_about_as_often_as_it_says(kind: str, count: int):
    chance = random.Random(0)
    held, error, flat = [], 0.0, 0.0
    for _ in range(60):
        points, value = drawn(chance, kind, count)
        found = continued(points, 2.0)
        assert found is not None
        middle, low, high = found
        assert low <= middle <= high
        held.append(low <= value <= high)
        error, flat = error + abs(middle - value), flat + abs(points[-1][1] - value)
    # sixty throws: three standard deviations are a tenth
    assert sum(held) / len(held) > CERTAINTY - 0.13
    # better than to say that nothing will change
    assert error < 0.6 * flat


def test_a_curve_that_has_come_to_its_floor_promises_nothing():
    found = of_curve({step: falling(step, 0.7, 6) for step in range(0, 101, 10)}).forecast
    assert found is not None and found.steps == 200 and found.score == pytest.approx(0.7, abs=0.005)
    assert "bring little" in found.in_words()
    found = of_curve({step: falling(step, 0.4, 40) for step in range(0, 101, 10)}).forecast
    assert found is not None and "worth trying" in found.in_words()
    assert found.low <= 0.4 + 0.6 * math.exp(-learned_by(200, 10, 200) / 40) <= found.high


def test_a_run_under_way_is_forecast_to_its_own_end():
    found = of_curve({step: falling(step, 0.4, 40) for step in range(0, 61, 10)}).forecast
    assert found is not None and found.steps == 100


def test_nothing_is_said_where_nothing_is_known():
    assert of_curve({}) == of_curve({0: None, 10: None}) == Outlook(None, 0, False, None)
    # too few
    assert of_curve({0: 1.0, 25: 0.8, 50: 0.7, 75: 0.65}).forecast is None
    # all over the place
    assert of_curve({0: 1.0, 20: 0.7, 40: 0.95, 60: 0.72, 80: 0.9, 100: 0.7}).forecast is None
    # it has never fallen
    assert of_curve({step: 1 + step / 100 for step in range(0, 101, 10)}).forecast is None
    risen = of_curve({0: 1.0, 20: 0.8, 40: 0.7, 60: 0.75, 80: 0.8, 100: 0.85})
    assert risen.by_heart and risen.after == 3 and risen.forecast is None


@given(st.lists(st.floats(0, 10), min_size=2, max_size=30), st.integers(1, 100))
def test_no_curve_of_measurements_is_a_fault(scores: list[float], steps: int):
    found = of_curve({index * 5: score for index, score in enumerate(scores)}, SftSettings(steps=steps))
    if found.forecast is not None:
        assert 0 <= found.forecast.low <= found.forecast.score <= found.forecast.high


def test_a_run_tells_it_wherever_runs_are_listed(tmp_path: Path):
    settings = SftSettings(steps=70, warmup=10)
    lines = measured(WREN)
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "config.toml").write_text("[sft]\nsteps = 70\nwarmup = 10\n")
    line = run_line(tmp_path)
    assert line.forecast == outlook(lines, settings).forecast is not None and not line.by_heart
    ahead = line.forecast
    assert f"{ahead.score:.2f} ({ahead.low:.2f} to {ahead.high:.2f}) expected at 140" in watch_line(line)
    assert more_steps(vars(ahead), False) == f"{ahead.score:.2f} at 140" and more_steps(None, False) == ""
    assert more_steps(None, True) == "by heart already"
    assert ahead.in_words() in held_out_in_words(lines, settings)[0]


def test_a_part_of_a_real_curve_foretells_its_end():
    settings, end = SftSettings(steps=50, warmup=10), WREN_EVERY_FIVE[50]
    for seen in (30, 35, 40):
        begun = {step: score for step, score in WREN_EVERY_FIVE.items() if step <= seen}
        found = of_curve(begun, settings).forecast
        assert found is not None and found.steps == 50
        assert found.low <= end <= found.high and abs(found.score - end) < 0.012
        # steps instead of added-up rates take the falling rate for a pause
        by_steps = continued(list(begun.items()), 50)
        assert by_steps is not None and abs(by_steps[0] - end) > abs(found.score - end)


WREN = {0: 1.0, 20: 0.8918, 40: 0.8568, 60: 0.8371, 70: 0.8380}
"""A run of the preset mini."""
WREN_EVERY_FIVE = {
    0: 1.0, 5: 0.9895, 10: 0.9405, 15: 0.9098, 20: 0.8922, 25: 0.8761, 30: 0.8581, 35: 0.8482, 40: 0.8412, 45: 0.8385,
    50: 0.8371,
}  # fmt: skip
"""One with fewer samples in a step, measured more often."""
