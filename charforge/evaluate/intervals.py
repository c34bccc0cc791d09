"""How sure a figure is: bootstrap intervals, of one measure and of the difference of two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

RESAMPLES = 2000
"""Bootstrap samples: the ends of a 95 % interval then move by about a hundredth of its width from seed to seed."""
Interval = dict[str, float]
"""``value`` with ``low`` and ``high``, the ends of its 95 % interval; rounded to four places."""


def mean(rows: np.ndarray) -> float:
    """The mean of all values that are there: one that could not be measured is nan and counts nowhere."""
    known = rows[~np.isnan(rows)]
    return float(known.mean()) if known.size else float("nan")


def interval(rows: np.ndarray, statistic: Callable[[np.ndarray], float] = mean, seed: int = 0) -> Interval:
    """The statistic of ``rows`` (n, ...) and its 95 % percentile bootstrap interval (Efron 1979) over rows.

    The same rows and seed give the same interval. It says how far other scenes or questions of the same kind would move
    the figure; it does not know that another training run would move it too. With fewer than about ten rows it is too
    narrow. Raises ValueError without rows.
    """
    if not len(rows):
        raise ValueError("there is nothing to measure: no rows")
    chosen = _resamples(len(rows), seed)
    if statistic is mean and not np.isnan(rows).any():
        # the same numbers as below, at once
        resampled = rows[chosen].mean(axis=1)
    else:
        resampled = np.array([statistic(rows[some]) for some in chosen])
    low, high = _ends(resampled)
    return {"value": round(statistic(rows), 4), "low": low, "high": high}


def _resamples(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))


def _ends(resampled: np.ndarray) -> tuple[float, float]:
    low, high = np.nanquantile(resampled, (0.025, 0.975))
    return round(float(low), 4), round(float(high), 4)


@dataclass(frozen=True)
class Series:
    """One measure of one run: a row (n, ...) for each thing that was measured, called by ``names``, and what is made of
    the rows."""

    names: tuple[str, ...]
    rows: np.ndarray
    statistic: Callable[[np.ndarray], float] = field(default=mean, compare=False)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.rows):
            raise ValueError(f"{len(self.names)} names for {len(self.rows)} rows")

    def interval(self) -> Interval:
        """See :func:`interval`."""
        return interval(self.rows, self.statistic)


def paired_difference(first: Series, second: Series, seed: int = 0) -> Interval | None:
    """By how much ``second`` is higher than ``first``, over what both measured: both are resampled together.

    What is hard for one run is hard for the other, so that this is narrower than their own intervals suggest.
    ``n`` counts what both measured. None where they have fewer than two things in common.
    """
    both = [name for name in first.names if name in set(second.names)]
    if len(both) < 2:
        return None
    one, other = (np.array([series.names.index(name) for name in both]) for series in (first, second))

    def difference(chosen: np.ndarray) -> float:
        return second.statistic(second.rows[other[chosen]]) - first.statistic(first.rows[one[chosen]])

    low, high = _ends(np.array([difference(chosen) for chosen in _resamples(len(both), seed)]))
    return {"value": round(difference(np.arange(len(both))), 4), "low": low, "high": high, "n": len(both)}
