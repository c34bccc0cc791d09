"""What more steps would bring: the held-out curve of the first stage, continued.

A curve that is being learned falls towards a floor. How fast and to where is not known: every shape of the table is
fitted to what was measured, weighed by how well it fits, and the spread of their continuations is the uncertainty.
Progress is counted in added-up learning rates, not in steps: the rate falls towards the end of a run, and a curve that
flattens for that reason has not come to its floor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from charforge.run.metrics import Line, of_kind
from charforge.settings import SftSettings
from charforge.train.schedule import learned_by

Points = Sequence[tuple[float, float]]
FEWEST = 5
"""Measurements that a curve needs, the one before the first step among them."""
NOISE = 0.004
"""Standard deviation of one held-out score, of the untrained adapter's 1.0, known before anything was measured."""
BELIEF = 2.0
"""How many measurements that knowledge is worth."""
CERTAINTY = 0.9
"""That the true value lies in the range."""
DOUBT = 0.35
"""No curve has exactly one of the shapes: beside what the fit leaves uncertain, this share of the change that is still
to come is a standard deviation. It makes the ranges of thirteen real curves as wide as they should be (docs/log.md,
2026-11-27)."""
WORTH = 0.01
"""Of the untrained adapter's score: what is less is not worth the time."""
WIDEST = 0.8
"""Of what was learned so far: a range that is wider says nothing."""
RISEN, MEASUREMENTS = 1.02, 3
"""Overfitting is told of when so many measurements since the best are all worse by this factor."""


@dataclass(frozen=True)
class Forecast:
    """The held-out score that a run of ``steps`` steps would end with, ``low`` to ``high`` with 90 % certainty;
    ``now`` is the one that is kept so far."""

    steps: int
    score: float
    low: float
    high: float
    now: float

    def in_words(self) -> str:
        """A sentence for the report."""
        worth = self.now - self.score >= WORTH
        verdict = "more steps are worth trying" if worth else "more steps would bring little"
        expected = f"{self.score:.2f} ({self.low:.2f} to {self.high:.2f})"
        return f"A run of {self.steps} steps would probably end with {expected}: {verdict}."


@dataclass(frozen=True)
class Outlook:
    """What the held-out measurements of the first stage say.

    The ``best`` of them is kept, and so many came ``after`` it; ``by_heart``: since then the examples are being learned
    by heart; ``forecast``: where more steps would lead. None where they do not say.
    """

    best: Line | None
    after: int
    by_heart: bool
    forecast: Forecast | None


def outlook(lines: list[Line], settings: SftSettings) -> Outlook:
    """Read from the metrics ``lines`` of a run.

    The forecast is for the steps of ``settings``; where those are done, for twice as many.
    """
    scored = [line for line in of_kind(lines, "held_out") if line["score"] is not None]
    best = next((line for line in reversed(scored) if line["best"]), None)
    if best is None:
        return Outlook(None, 0, False, None)
    after = [line for line in scored if line["step"] > best["step"]]
    by_heart = len(after) >= MEASUREMENTS and all(line["score"] >= best["score"] * RISEN for line in after)
    steps = settings.steps if scored[-1]["step"] < settings.steps else 2 * settings.steps
    found = None
    if len(scored) >= FEWEST and not by_heart:
        points = [(learned_by(line["step"], settings.warmup, settings.steps), line["score"]) for line in scored]
        found = continued(points, learned_by(steps, settings.warmup, steps))
    if found is None or found[2] - found[1] > WIDEST * (scored[0]["score"] - best["score"]):
        return Outlook(best, len(after), by_heart, None)
    middle, low, high = (round(value, 4) for value in found)
    return Outlook(best, len(after), by_heart, Forecast(steps, middle, low, high, round(best["score"], 4)))


def continued(points: Points, at: float) -> tuple[float, float, float] | None:
    """The value at ``at`` of a falling curve through ``points`` (x, y), and the range in which it lies with 90 %
    certainty; None where no shape falls."""
    last = max(x for x, _ in points)
    fits = [fit for shape in SHAPES if (fit := _fitted(shape, points, at, last)) is not None]
    if not fits:
        return None
    likeliest = max(weight for weight, _, _ in fits)
    known = [(math.exp(weight - likeliest), middle, deviation) for weight, middle, deviation in fits]
    low, middle, high = (_quantile(known, share) for share in ((1 - CERTAINTY) / 2, 0.5, (1 + CERTAINTY) / 2))
    return middle, max(0.0, low), high


def _exponential(rate: float) -> Callable[[float], float]:
    return lambda x: math.exp(-rate * x)


def _power(rate: float, power: float) -> Callable[[float], float]:
    return lambda x: (1 + rate * x) ** -power


SHAPES = (
    *(_exponential(0.25 * 1.25**n) for n in range(22)),
    *(_power(1.6**n, power) for n in range(12) for power in (0.25, 0.5, 1.0)),
)
"""From 1 at 0 down to 0, in units of the last x: from nearly straight to over and done with after a thirtieth."""


def _fitted(
    shape: Callable[[float], float], points: Points, at: float, last: float
) -> tuple[float, float, float] | None:
    """Of floor + drop * ``shape``, by least squares: how likely the points make it (logarithm), its value ``at``, and
    the standard deviation of that. None where it would rise, or fall below nothing."""
    count = len(points)
    over = [shape(x / last) for x, _ in points]
    middle, height = sum(over) / count, sum(y for _, y in points) / count
    spread = sum((g - middle) ** 2 for g in over)
    drop = sum((g - middle) * (y - height) for g, (_, y) in zip(over, points, strict=True)) / spread
    floor = height - drop * middle
    if drop <= 0 or floor < 0:
        return None
    errors = sum((floor + drop * g - y) ** 2 for g, (_, y) in zip(over, points, strict=True)) + BELIEF * NOISE**2
    # three numbers were fitted: floor, drop and shape
    variance = errors / (count - 3 + BELIEF)
    there = shape(at / last)
    change = drop * (shape(1.0) - there)
    deviation = math.hypot(math.sqrt(variance * (1 + 1 / count + (there - middle) ** 2 / spread)), DOUBT * change)
    return -(count + BELIEF) / 2 * math.log(errors), floor + drop * there, deviation


def _quantile(parts: Sequence[tuple[float, float, float]], share: float) -> float:
    """Of a mixture of normal distributions (weight, mean, deviation), by bisection."""
    low = min(mean - 5 * deviation for _, mean, deviation in parts)
    high = max(mean + 5 * deviation for _, mean, deviation in parts)
    whole = sum(weight for weight, _, _ in parts)
    for _ in range(60):
        half = (low + high) / 2
        below = sum(w * (1 + math.erf((half - mean) / (deviation * math.sqrt(2)))) / 2 for w, mean, deviation in parts)
        low, high = (half, high) if below < share * whole else (low, half)
    return (low + high) / 2
