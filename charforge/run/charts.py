"""Curves as SVG for a page that is written again and again: points in, a small picture out that fits any width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 480, 230, 52, 24, 10
MOST_POINTS = 300


@dataclass(frozen=True)
class Curve:
    """A named line through (x, y) points; ``style`` is a class of the page's style sheet."""

    name: str
    points: Sequence[tuple[float, float | None]]
    style: str


@dataclass(frozen=True)
class Chart:
    """Ready to be drawn: ``lines`` are (name, style, points as SVG has them), ``ticks`` of both axes (position, label),
    ``shaded`` is the width in pixels of the part on the left that is marked.
    """

    title: str
    x_name: str
    lines: list[tuple[str, str, str]] = field(default_factory=list)
    x_ticks: list[tuple[float, str]] = field(default_factory=list)
    y_ticks: list[tuple[float, str]] = field(default_factory=list)
    shaded: float = 0.0
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    floor: int = HEIGHT - BOTTOM


def draw_chart(title: str, x_name: str, curves: Sequence[Curve], shaded_to: float = 0.0) -> Chart | None:
    """The curves in one picture; what is left of ``shaded_to`` is marked. None where no point is known."""
    known = {curve.name: [(x, y) for x, y in curve.points if y is not None and math.isfinite(y)] for curve in curves}
    every = [point for points in known.values() for point in points]
    if not every:
        return None
    left, right = min(0.0, *(x for x, _ in every)), max(x for x, _ in every)
    low, high = min(y for _, y in every), max(y for _, y in every)
    right = right if right > left else left + 1
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    low, high = low - room, high + room

    def across(x: float) -> float:
        return round(LEFT + (x - left) / (right - left) * (WIDTH - LEFT - 8), 1)

    def up(y: float) -> float:
        return round(HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - BOTTOM - TOP), 1)

    lines = [
        (curve.name, curve.style, " ".join(f"{across(x)},{up(y)}" for x, y in _thinned(known[curve.name])))
        for curve in curves
        if known[curve.name]
    ]
    x_values = dict.fromkeys((left, round((left + right) / 2), right))
    y_values = (low + room, (low + high) / 2, high - room)
    return Chart(
        title=title,
        x_name=x_name,
        lines=lines,
        x_ticks=[(across(x), f"{x:g}") for x in x_values],
        y_ticks=[(up(y), f"{y:.3g}") for y in dict.fromkeys(y_values)],
        shaded=max(0.0, across(min(shaded_to, right)) - LEFT) if shaded_to > 0 else 0.0,
    )


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means over neighbours where there are more points than can be told apart; the last one stays."""
    if len(points) <= MOST_POINTS:
        return points
    size = math.ceil(len(points) / MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]
