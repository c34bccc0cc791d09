"""Pictures of a character: one for each seed, or the best of several where the session has a taste."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from charforge import grammar
from charforge.bases.drawing import DrawingProgress, begin_drawing
from charforge.chat.session import Session
from charforge.files import write_atomic_with
from charforge.judges.choosing import best_of, taste_of
from charforge.judges.encoders import Encoder
from charforge.judges.likeness import FEWEST_REFERENCES
from charforge.pixels import contact_sheet

SEED_STEP = 1_000_003
"""Between the seeds of drawings of which one is taken: far from the next picture's."""
REFERENCES, REFERENCE_SEED = 6, 70_000
"""Drawings that say how a character looks where none of its own pictures are at hand, and the first of their seeds."""


def with_taste(session: Session, encoder: Encoder, pictures: Sequence[Image.Image], count: int) -> Session:
    """The session, drawing the best of ``count`` from now on. ``pictures`` are the character's own; where there are
    fewer than three, drawings of it say how it looks."""
    known = pictures if len(pictures) >= FEWEST_REFERENCES else drawings_of(session)
    return replace(session, taste=taste_of(encoder, known, count))


def drawings_of(session: Session) -> tuple[Image.Image, ...]:
    """A few drawings of the character's name alone: how the adapter means it."""
    seeds = range(REFERENCE_SEED, REFERENCE_SEED + REFERENCES)
    return imagine(replace(session, taste=None), grammar.who(session.character), seeds).pictures


def draw_best(session: Session, prompt: str, scene: str, seeds: Sequence[int]) -> Iterator[DrawingProgress]:
    """Pictures of ``prompt`` step by step, one a seed; each the best of several, with its likeness, where the session
    has a taste. ``scene`` is what they should show, in phrases between commas.

    Each step is asked for inside ``session.computes()``.
    """
    model, taste = session.base.model, session.taste
    if taste is None:
        yield from begin_drawing(model, prompt, seeds)
        return
    details = grammar.caption_details(session.character, scene)
    for progress in begin_drawing(model, prompt, [seed + SEED_STEP * n for seed in seeds for n in range(taste.count)]):
        if not progress.pictures:
            yield progress
            continue
        several = [progress.pictures[n : n + taste.count] for n in range(0, len(progress.pictures), taste.count)]
        found = [best_of(taste, model, pictures, details) for pictures in several]
        best = tuple(pictures[which] for pictures, (which, _) in zip(several, found, strict=True))
        yield replace(progress, pictures=best, likeness=tuple(alike for _, alike in found))


def imagine(
    session: Session,
    prompt: str,
    seeds: Sequence[int],
    exactly: bool = False,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> DrawingProgress:
    """Pictures of ``prompt``, one a seed; the character's name and class are added unless ``exactly``."""
    full = prompt if exactly else session.picture_prompt(prompt)
    drawing = draw_best(session, full, prompt, seeds)
    while True:
        with session.computes():
            progress = next(drawing)
        report(progress.done, progress.steps)
        if progress.pictures:
            return progress


def write_sheet(pictures: Sequence[Image.Image], out: Path) -> None:
    """One picture, or a sheet of several, as a PNG file."""
    columns = min(4, len(pictures))
    sheet = pictures[0] if len(pictures) == 1 else contact_sheet(list(pictures), columns, pictures[0].width)
    write_atomic_with(out, lambda path: sheet.save(path, "PNG"))
