"""``evaluation.html`` and ``evaluation.md``: what was measured of a run, for people; each one file that needs no other.

The page shows pictures that the character was trained on, beside what is most like them: it is for whoever trained it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from PIL import Image
from torch import Tensor

from charforge.evaluate.intervals import Interval
from charforge.evaluate.verdict import Row, picture_faults, picture_scores, reply_faults, rows_of, verdict
from charforge.evaluate.whole import Measured
from charforge.files import write_atomic
from charforge.pixels import to_image

SHOWN = 3
"""Best, median and worst pictures each."""
MOST_FAILURES = 6
LARGEST = 256
"""Pixels of a picture's longer side on the page."""


@dataclass(frozen=True)
class Card:
    """One drawn picture beside what belongs to it; pictures are data URLs."""

    title: str
    prompt: str
    drawn: str
    bare: str
    nearest: str
    nearest_name: str
    figures: str
    faults: list[str]


@dataclass(frozen=True)
class Exchange:
    """One question with the replies of both and what the character really said; ``faults`` of the trained one."""

    asked: str
    without: str
    said: str
    real: str
    faults: list[str]


def write_page(file: Path, measured: Measured, command: str) -> None:
    """Write the page. ``command`` is the line that measured."""
    rows = rows_of(measured)
    cards = picture_cards(measured)
    talk = exchanges(measured)
    template = files("charforge.evaluate").joinpath("page.html").read_text("utf-8")
    html = Environment(autoescape=True).from_string(template).render(
        name=measured.name,
        verdict=verdict(measured, rows),
        rows=[_shown_row(row) for row in rows],
        failures=cards["failures"][:MOST_FAILURES],
        failed=len(cards["failures"]),
        pictures=len(measured.after.drawn.pictures),
        groups=[(title, cards[title]) for title in ("best", "median", "worst")],
        broken=[one for one in talk if one.faults],
        talk=talk,
        encoder=measured.encoder,
        copy=f"{measured.copy:.3f}",
        command=command,
        run=str(measured.run),
    )  # fmt: skip
    write_atomic(file, html)


def markdown(measured: Measured, command: str) -> str:
    """The verdict and the table for a model card."""
    rows = rows_of(measured)
    lines = [f"# {measured.name}: evaluation", "", verdict(measured, rows), ""]
    lines += ["| | without the adapter | with it | the real thing | better |", "|---|---|---|---|---|"]
    for row in rows:
        cells = [_figure(row.before), _figure(row.after), _figure(row.ceiling)]
        lines.append(f"| {row.measure.title} | {' | '.join(cells)} | {row.measure.better} |")
    told = f"Pictures were judged by {measured.encoder}. 95 % bootstrap intervals in brackets. Made by `{command}`."
    return "\n".join([*lines, "", told, ""])


def _figure(interval: Interval | None) -> str:
    if interval is None:
        return ""
    value, low, high = (_in_digits(interval[key], 3) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _in_digits(value: float, places: int) -> str:
    """Hundreds and more are counts: without places."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.{places}f}"


def picture_cards(measured: Measured) -> dict[str, list[Card]]:
    """Pictures by score, which no hand picked: "best", "median", "worst"; and all "failures", the worst first."""
    scores = picture_scores(measured.after)
    order = [int(number) for number in np.argsort(-scores, kind="stable")]
    count = min(SHOWN, len(order))
    middle = max(0, (len(order) - count) // 2)
    chosen = {"best": order[:count], "median": order[middle : middle + count], "worst": order[::-1][:count]}
    failed = [number for number in reversed(order) if picture_faults(measured.after, number)]
    return {
        title: [_card(measured, number, float(scores[number])) for number in numbers]
        for title, numbers in (*chosen.items(), ("failures", failed[:MOST_FAILURES]))
    }


def _card(measured: Measured, number: int, score: float) -> Card:
    after, before, real = measured.after, measured.before, measured.real
    values = {name: float(value[number]) for name, value in after.seen.values.items()}
    nearest = int(after.seen.nearest[number])
    like = f"likeness {values['likeness']:.2f}" if "likeness" in values else f"cosine {values['identity']:.2f}"
    return Card(
        title=f"score {score:.2f}",
        prompt=after.drawn.shown[number].prompt,
        drawn=_url(after.drawn.pictures[number]),
        bare=_url(before.drawn.pictures[number]) if before is not None else "",
        nearest=_url(real.trained[nearest]) if real is not None else "",
        nearest_name=real.names[nearest] if real is not None else "",
        figures=f"{like}, scene {100 * values['scene']:.0f} %",
        faults=picture_faults(after, number),
    )


def exchanges(measured: Measured) -> list[Exchange]:
    """All conversations, those with faults first."""
    after, before = measured.after.replies, measured.before
    called = measured.character.name if measured.character is not None else ""
    faults = reply_faults(after, measured.own, called)
    without: Sequence[str] = before.replies.raw if before is not None else [""] * len(after.raw)
    found = [
        Exchange(one.asked or one.name.removeprefix("request: "), bare, said, one.reference, wrong)
        for one, bare, said, wrong in zip(after.asked, without, after.raw, faults, strict=True)
    ]
    return sorted(found, key=lambda one: not one.faults)


def _url(picture: Tensor) -> str:
    image = to_image(picture)
    if max(image.size) > LARGEST:
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _shown_row(row: Row) -> dict[str, Any]:
    """A row as the template has it: figures, and the three intervals as places in percent on one scale."""
    three = [interval for interval in (row.before, row.after, row.ceiling) if interval is not None]
    low = min(0.0, *(one["low"] for one in three))
    high = max(1.0, *(one["high"] for one in three))

    def place(interval: Interval | None) -> dict[str, Any] | None:
        if interval is None:
            return None
        at, start, end = (100 * (interval[key] - low) / (high - low) for key in ("value", "low", "high"))
        return {
            "figure": _in_digits(interval["value"], 2),
            "interval": f"{_in_digits(interval['low'], 2)} to {_in_digits(interval['high'], 2)}",
            "at": f"{at:.1f}",
            "start": f"{min(start, end):.1f}",
            "width": f"{max(abs(end - start), 0.6):.1f}",
        }

    return {
        "title": row.measure.title,
        "name": row.measure.name,
        "better": row.measure.better,
        "changed": row.changed,
        "before": place(row.before),
        "after": place(row.after),
        "ceiling": place(row.ceiling),
    }
