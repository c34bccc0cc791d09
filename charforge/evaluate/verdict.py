"""What figures mean in words: the verdict in a sentence, and what went wrong first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from charforge.evaluate.intervals import Interval, paired_difference
from charforge.evaluate.names import wrong_name
from charforge.evaluate.series import Replies, State
from charforge.evaluate.voice import breaks_character, distinct, speaks_for_user, wordless
from charforge.evaluate.whole import Measured

GOOD, HALF = 0.75, 0.5
"""Shares from which something is done well, and half done."""
MANY_COPIES, MANY_FAULTS, MUCH_FORGOTTEN = 0.2, 0.1, 0.1
CIRCLES = 0.6
"""Share of different pairs of words below which a reply goes round in circles."""
Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Measure:
    """A measure in words: what it is and in which direction it is better; "" where neither is."""

    name: str
    title: str
    better: Better


MEASURES = (
    Measure("likeness", "likeness, 0: only its colours, 1: as alike as its own pictures", "higher"),
    Measure("identity", "likeness to the nearest of its pictures (cosine)", "higher"),
    Measure("identity_tower", "the same in the eyes of the base, which no reward asks", "higher"),
    Measure("copy_rate", "share of copies of a training picture", "lower"),
    Measure("scene", "shows what was asked (right answer of four)", "higher"),
    Measure("scene_yes_no", "shows what was asked (yes or no)", "higher"),
    Measure("clip_t", "picture and prompt by CLIP", "higher"),
    Measure("variety", "how different pictures of one prompt are", ""),
    Measure("consistency", "the picture shows what its reply says", "higher"),
    Measure("requests", "plans the picture it is asked for", "higher"),
    Measure("voice", "perplexity of its held-out lines", "lower"),
    Measure("voice_card", "the same with its whole card in the prompt", "lower"),
    Measure("prompt_tokens_saved", "tokens of prompt that the adapter saves at equal voice", "higher"),
    Measure("voice_distance", "distance of its letters from its own lines", "lower"),
    Measure("chrf", "letters shared with what it really said", "higher"),
    Measure("memorization", "agrees with what is known of it, by the judge", "higher"),
    Measure("personality", "is the character, by the judge", "higher"),
    Measure("sameness", "says the same to different questions", "lower"),
    Measure("distinct_2", "different pairs of words within a reply", "higher"),
    Measure("knowledge", "facts it was taught (right answer of four)", "higher"),
    Measure("calibrated", "right answers and right \u201cI do not know\u201d together", "higher"),
    Measure("speaks_for_user", "share of replies that speak for the user", "lower"),
    Measure("breaks_character", "share of replies out of character", "lower"),
    Measure("wordless", "share of replies without a word", "lower"),
    Measure("wrong_names", "share of replies with somebody else\u2019s name", "lower"),
    Measure("forgetting_texts", "how much worse the base\u2019s own texts are foreseen", "lower"),
    Measure("forgetting_pictures", "how much worse the base\u2019s own pictures are foreseen", "lower"),
)
"""In the order of tables."""


@dataclass(frozen=True)
class Row:
    """One line of the table. ``changed``: whether the run differs from the bare base by more than chance (None: not
    compared), and for the better."""

    measure: Measure
    before: Interval | None
    after: Interval
    ceiling: Interval | None
    changed: Literal["better", "worse", "other", "same"] | None


def rows_of(measured: Measured) -> list[Row]:
    """All measures of a run in the order of ``MEASURES``."""
    after, before, ceiling = measured.after.series, measured.before, measured.ceiling
    rows = []
    for measure in MEASURES:
        name = measure.name
        if name not in after or np.isnan(after[name].interval()["value"]):
            continue
        bare = before.series.get(name) if before is not None else None
        rows.append(
            Row(
                measure,
                bare.interval() if bare is not None else None,
                after[name].interval(),
                ceiling[name].interval() if name in ceiling else None,
                _changed(measure.better, paired_difference(bare, after[name])) if bare is not None else None,
            )
        )
    return rows


def _changed(better: Better, difference: Interval | None) -> Literal["better", "worse", "other", "same"]:
    if difference is None or difference["low"] <= 0 <= difference["high"]:
        return "same"
    if not better:
        return "other"
    return "better" if (difference["value"] > 0) == (better == "higher") else "worse"


def verdict(measured: Measured, rows: Sequence[Row]) -> str:
    """The run in one sentence, by fixed rules: what it looks like, what it shows, how it speaks; then what is wrong."""
    by_name = {row.measure.name: row for row in rows}
    good = [part for part in (_looks(by_name), _shows(by_name), _speaks(by_name), _saves(by_name)) if part]
    told = f"{measured.name} {_listed(good)}" if good else f"{measured.name} was measured"
    wrong = _wrong(by_name)
    return f"{told}; {_listed(wrong)}." if wrong else f"{told}."


def _looks(rows: dict[str, Row]) -> str:
    row = rows.get("likeness")
    if row is None:
        return ""
    value = row.after["value"]
    told = "looks like its pictures" if value >= GOOD else "looks somewhat like its pictures"
    return f"{told if value >= HALF else 'does not look like its pictures'} ({value:.2f} of 1)"


def _shows(rows: dict[str, Row]) -> str:
    row = rows.get("scene")
    if row is None:
        return ""
    value = row.after["value"]
    how = "shows what it is asked for" if value >= GOOD else "shows a part of what it is asked for"
    return f"{how if value >= HALF else 'shows little of what it is asked for'} ({100 * value:.0f} %)"


def _speaks(rows: dict[str, Row]) -> str:
    row = rows.get("voice")
    if row is None or row.before is None:
        return ""
    figures = f"perplexity {row.after['value']:.1f}, without training {row.before['value']:.1f}"
    how = {"better": "more", "worse": "less"}.get(row.changed or "", "no more")
    return f"speaks {how} like itself than the bare base ({figures})"


def _saves(rows: dict[str, Row]) -> str:
    row = rows.get("prompt_tokens_saved")
    if row is None:
        return ""
    tokens = row.after["value"]
    return f"saves {tokens:.0f} tokens of prompt" if tokens else "speaks less well than with its card in the prompt"


def _wrong(rows: dict[str, Row]) -> list[str]:
    def value(name: str) -> float:
        return rows[name].after["value"] if name in rows else 0.0

    wrong = []
    if value("copy_rate") > MANY_COPIES:
        wrong.append(f"{100 * value('copy_rate'):.0f} % of its pictures are copies of a training picture")
    same = rows.get("sameness")
    if same is not None and same.ceiling is not None and same.after["low"] > same.ceiling["high"]:
        wrong.append("it says much the same to different questions")
    if value("breaks_character") > MANY_FAULTS:
        wrong.append(f"{100 * value('breaks_character'):.0f} % of its replies are out of character")
    if value("speaks_for_user") > MANY_FAULTS:
        wrong.append(f"{100 * value('speaks_for_user'):.0f} % of its replies speak for the user")
    if value("wordless") > MANY_FAULTS:
        wrong.append(f"{100 * value('wordless'):.0f} % of its replies have no words")
    if value("wrong_names") > MANY_FAULTS:
        wrong.append(f"{100 * value('wrong_names'):.0f} % of its replies give it or the user somebody else's name")
    if value("forgetting_texts") > MUCH_FORGOTTEN or value("forgetting_pictures") > MUCH_FORGOTTEN:
        wrong.append("others have suffered from it")
    return wrong


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


# single pictures and replies


def picture_scores(state: State) -> np.ndarray:
    """(pictures,): the mean of how surely a picture shows its scene and its likeness, both 0 to 1; 0 for a copy."""
    values = {name: value.numpy() for name, value in state.seen.values.items()}
    like = values.get("likeness", values["identity"]).clip(0, 1)
    scene = np.nan_to_num(values["scene"], nan=0.5)
    return np.where(values["copy_rate"] > 0, 0.0, (scene + like) / 2)


def picture_faults(state: State, number: int) -> list[str]:
    """What is wrong with one picture, in words."""
    values = {name: float(value[number]) for name, value in state.seen.values.items()}
    faults = []
    if values["copy_rate"] > 0:
        faults.append("a copy of a training picture")
    if values["scene"] < HALF:
        faults.append(f"shows {100 * values['scene']:.0f} % of what was asked")
    if values.get("likeness", 1.0) < HALF:
        faults.append(f"is not like it ({values['likeness']:.2f})")
    return faults


def reply_faults(replies: Replies, own: str, called: str = "") -> list[list[str]]:
    """What is wrong with each reply, in words. ``own``: everything that the character's files say; ``called``: its
    name; without it names are not looked at."""
    asked = zip(replies.shown, replies.asked, strict=True)
    return [_faults(reply, own, called, conversation.heard) for reply, conversation in asked]


def _faults(reply: str, own: str, called: str, heard: str) -> list[str]:
    faults = []
    if wordless(reply):
        faults.append("says nothing")
    if breaks_character(reply, own.lower(), called):
        faults.append("out of character")
    if speaks_for_user(reply):
        faults.append("speaks for the user")
    if called and wrong_name(reply, called, own, heard):
        faults.append("by somebody else's name")
    if distinct(reply) < CIRCLES:
        faults.append("goes round in circles")
    return faults
