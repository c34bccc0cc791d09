"""Going on from the shipped weights in one go, on a machine that is at hand for minutes: all that the generation stage
needs, its figures before and after, and the new weights in pieces that a narrow way back takes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from charforge.bases.base import MINI, compute_dtype
from charforge.bases.language import ensure_language_weights
from charforge.bases.where import MINI_FILES, find_base
from charforge.families import family_of
from charforge.families.bagel.config import read_config
from charforge.families.protocol import UnifiedModel
from charforge.files import sha256_file, write_atomic
from charforge.recipe import dataset
from charforge.recipe.autoencoder import finish
from charforge.recipe.bench.run import measure_drawing
from charforge.recipe.contrast import make_contrasts
from charforge.recipe.generation import GenerationRecipe, prepare_generation, train_generation
from charforge.recipe.pack import pack_base
from charforge.recipe.probe import SHIPPED, load_probe
from charforge.recipe.unpack import unpack_base

PIECE_BYTES = 15 * 2**20
Report = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """Pictures to render, pairs that differ in one word, captions of the benchmark before and after (0: no figures)."""

    pictures: int = 24_000
    contrasts: int = 3_200
    captions: int = 200


def go_on(
    out: Path, size: Size, recipe: GenerationRecipe, device: str, processes: int, report: Report
) -> dict[str, Any]:
    """Train the generation expert of ``mini`` on from its shipped weights below ``out``: a folder of its own.

    What was done in an earlier try is not done again. Returns and writes (``further.json``) seconds of each part,
    figures of unseen captions before and after, samples, and the pieces of the new weights in ``out/pieces``.
    """
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        report(name)
        began = time.monotonic()
        found = work()
        seconds[name] = round(time.monotonic() - began, 1)
        return found

    if not (out / "generation" / "checkpoint.safetensors").exists():
        timed("unpacking the shipped weights", lambda: unpack_base(MINI, out))
    before, after = None, None
    if size.captions:
        before = timed("drawing unseen captions, before", lambda: _figures(out / "before.json", MINI, size, device))
    if not (out / "data" / "records.jsonl").exists():
        timed("rendering", lambda: list(dataset.render(out / "data", size.pictures, recipe.seed, processes)))
    if not (out / "autoencoder" / "latents.npy").exists():
        pictures, held_out = (np.load(out / "data" / f"{name}.npy", mmap_mode="r") for name in ("images", "held_out"))
        timed("encoding", lambda: finish(out / "autoencoder", pictures, np.array(held_out), device))
        keep_statistics(out / "autoencoder" / "autoencoder.json")
    if recipe.contrasts and not (out / "data" / "contrasts.jsonl").exists():
        timed(
            "contrasts", lambda: make_contrasts(out, size.contrasts, recipe.seed, lambda done: None, device, processes)
        )
    model, data, contrasts = timed(
        "reading captions", lambda: prepare_generation(out, recipe, device, lambda done, count: None)
    )
    timed("training", lambda: train_generation(model, data, contrasts, recipe, out / "generation"))
    packed = out / "packed"
    provenance = timed("packing", lambda: pack_base(out, packed))
    if size.captions:
        after = timed("drawing unseen captions, after", lambda: measure_packed(packed, size.captions, device))
    trained = provenance["generation"]
    result = {
        "device": device, "size": asdict(size), "recipe": recipe.model_dump(), "seconds": seconds,
        "samples": trained["step"] * recipe.captions * recipe.draws, "training": trained,
        "before": before, "after": after,
        "pieces": cut(packed / "generation.safetensors", out / "pieces"),
        "sha256": sha256_file(packed / "generation.safetensors"),
    }  # fmt: skip
    write_atomic(out / "further.json", json.dumps(result, indent=1))
    return result


def keep_statistics(file: Path) -> None:
    """Put the mean and deviation of the shipped latents in place of those just measured: the shipped weights draw in
    these units, and a few hundred pictures measure others than all of them do."""
    shipped = read_config(MINI).autoencoder
    assert shipped.latent_mean is not None and shipped.latent_std is not None
    own = {"latent_mean": list(shipped.latent_mean), "latent_std": list(shipped.latent_std)}
    write_atomic(file, json.dumps(json.loads(file.read_text("utf-8")) | own, indent=2))


def _figures(file: Path, packed: Path, size: Size, device: str) -> dict[str, Any]:
    """Those in ``file``, or new ones that are kept there."""
    if file.exists():
        return json.loads(file.read_text("utf-8"))
    found = measure_packed(packed, size.captions, device)
    write_atomic(file, json.dumps(found))
    return found


def measure_packed(packed: Path, captions: int, device: str) -> dict[str, Any]:
    """Attributes of drawings of the benchmark's first unseen captions by the base in ``packed``."""
    return measure_drawing(load_packed(packed, device), load_probe(SHIPPED), captions)


def load_packed(packed: Path, device: str) -> UnifiedModel:
    """A base as :func:`~charforge.recipe.pack.pack_base` writes it, on ``device``."""
    language = ensure_language_weights()
    files = replace(
        find_base("mini"),
        config_folder=packed,
        weights=(language / "language.safetensors", *(packed / file for file in MINI_FILES)),
        autoencoder=packed / "autoencoder.safetensors",
        additions=(packed / "reading.safetensors",),
    )
    return family_of(packed).load(files, compute_dtype(device), device, None, 0.0, lambda done, count: None)


def cut(file: Path, to: Path, size: int = PIECE_BYTES) -> list[str]:
    """``file`` in pieces of at most ``size`` bytes in the folder ``to``; their names, in order. ``cat`` joins them."""
    to.mkdir(parents=True, exist_ok=True)
    content, names = file.read_bytes(), []
    for number, start in enumerate(range(0, len(content), size)):
        name = f"{file.name}.{number:02d}"
        write_atomic(to / name, content[start : start + size])
        names.append(name)
    return names
