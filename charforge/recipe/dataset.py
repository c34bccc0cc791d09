"""Rendering the training data: pictures as one array, records with captions and answers as JSONL."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from charforge.files import write_atomic
from charforge.recipe import captions, drawing, world
from charforge.recipe.stages import require
from charforge.recipe.world import Look

SIZE = 128
HELD_OUT = 512
CHUNK = 250


def look_of(index: int, seed: int) -> Look:
    """The look with number ``index`` of the data with ``seed``; held-out ones have negative numbers."""
    return world.random_look(random.Random(f"{seed}:{index}"))


def record(look: Look, index: int, seed: int) -> dict[str, Any]:
    """What is known about a picture: its look and four captions."""
    rng = random.Random(f"words:{seed}:{index}")
    # few-shot captions name only what varies: such sparse captions must be familiar too
    completeness = (0.95, 0.85, 0.7, 0.5)
    return {
        "look": {key: value for key, value in asdict(look).items() if value not in ("", 0)},
        "captions": [captions.caption(look, rng, share) for share in completeness],
    }


def _render_chunk(job: tuple[int, int, int]) -> tuple[int, np.ndarray]:
    start, stop, seed = job
    pictures = [np.asarray(drawing.draw(look_of(index, seed), SIZE)) for index in range(start, stop)]
    return start, np.stack(pictures)


def render(out: Path, count: int, seed: int, processes: int = 2) -> Iterator[int]:
    """Render ``count`` training and ``HELD_OUT`` held-out pictures into ``out``; yields how many are done.

    Resumes: chunks already on disk are kept. Held-out pictures that equal a training picture are left out.
    """
    out.mkdir(parents=True, exist_ok=True)
    chunks = out / "chunks"
    chunks.mkdir(exist_ok=True)
    spans = [(start, min(start + 256, 0)) for start in range(-HELD_OUT, 0, 256)]
    spans += [(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    # the whole span and the seed name a chunk: a run with another count or seed must not take over its pictures
    chunk = {start: chunks / f"{seed}_{start}_{stop}.npy" for start, stop in spans}
    jobs = [(start, stop, seed) for start, stop in spans if not chunk[start].exists()]
    done = count + HELD_OUT - sum(stop - start for start, stop, _ in jobs)
    with ProcessPoolExecutor(processes) as pool:
        for start, pictures in pool.map(_render_chunk, jobs):
            temporary = chunk[start].with_suffix(".tmp")
            with temporary.open("wb") as file:
                np.save(file, pictures)
            temporary.rename(chunk[start])
            done += len(pictures)
            yield done
    train = np.concatenate([np.load(file) for start, file in chunk.items() if start >= 0])
    held_out = np.concatenate([np.load(file) for start, file in chunk.items() if start < 0])
    known = {hashlib.sha256(picture.tobytes()).digest() for picture in train}
    kept = [row for row, picture in enumerate(held_out) if hashlib.sha256(picture.tobytes()).digest() not in known]
    np.save(out / "images.npy", train)
    np.save(out / "held_out.npy", held_out[kept])
    _write_records(out / "records.jsonl", range(count), seed)
    _write_records(out / "held_out.jsonl", [row - HELD_OUT for row in kept], seed)


def _write_records(path: Path, indices: Any, seed: int) -> None:
    lines = [json.dumps(record(look_of(index, seed), index, seed), ensure_ascii=False) for index in indices]
    write_atomic(path, "\n".join(lines) + "\n")


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of one split in the order of its pictures. Raises InputError when nothing was rendered."""
    return [json.loads(line) for line in require(path, "render").read_text("utf-8").splitlines()]
