"""Packing: the trained parts as they ship, with replay data, configuration and provenance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from charforge.errors import InputError
from charforge.families.bagel.checkpoint import rounded_rows
from charforge.families.bagel.layers import sincos_table
from charforge.files import sha256_file, write_atomic, write_atomic_with
from charforge.recipe.answers import fold_strength, read_averages
from charforge.recipe.autoencoder import standard_tokens
from charforge.recipe.dataset import read_records
from charforge.recipe.shape import mini_config
from charforge.recipe.stages import require
from charforge.train.dataset import quantised_tokens

REPLAY = 512
LIMIT_MIB = 32


def pack_base(out: Path, to: Path) -> dict[str, Any]:
    """Write everything into ``to`` and return the provenance.

    Raises InputError when a stage has not run, and when the base outgrows ``LIMIT_MIB``.
    """
    report = json.loads(require(out / "autoencoder" / "autoencoder.json", "autoencoder").read_text("utf-8"))
    config = mini_config(tuple(report["latent_mean"]), tuple(report["latent_std"]))
    # everything is read before anything is written: `to` may be the installed package
    generation = read_averages(out / "generation" / "checkpoint.safetensors")
    seeing = read_averages(out / "vision" / "checkpoint.safetensors")
    records = read_records(out / "data" / "records.jsonl")
    write_atomic(to / "charforge_base.json", config.model_dump_json(indent=1))
    generation["latent_pos_embed.pos_embed"] = sincos_table(config.max_latent_size, config.generation.hidden_size)
    _save(to / "generation.safetensors", rounded_rows(generation))
    _save(to / "reading.safetensors", rounded_rows(fold_strength(seeing)))
    vision = {name: tensor for name, tensor in seeing.items() if ".lora_" not in name}
    vision["vit_pos_embed.pos_embed"] = sincos_table(config.vision.patches_per_side, config.understanding.hidden_size)
    _save(to / "vision.safetensors", rounded_rows(vision))
    _save(to / "autoencoder.safetensors", load_file(out / "autoencoder" / "autoencoder.safetensors"))

    picked = np.random.default_rng(0).permutation(len(records))[:REPLAY]
    tokens = standard_tokens(np.load(out / "autoencoder" / "latents.npy", mmap_mode="r")[np.sort(picked)], config)
    captions = [records[index]["captions"][row % 4] for row, index in enumerate(np.sort(picked))]
    rounded, scale = quantised_tokens(torch.from_numpy(tokens.astype(np.float32)))
    state = {"tokens": rounded, "scale": scale.reshape(1)}
    metadata = {"captions": json.dumps(captions)}
    write_atomic_with(to / "replay.safetensors", lambda path: save_file(state, path, metadata))

    files = sorted(path for path in to.glob("*.safetensors"))
    size = sum(path.stat().st_size for path in files) / 2**20
    if size > LIMIT_MIB:
        raise InputError(f"the base is {size:.1f} MiB, more than the {LIMIT_MIB} it may have")
    provenance = {
        "recipe": "python -m charforge.recipe",
        "license": "Apache-2.0",
        "data": "DiceBear styles (CC0 1.0), Fluent Emoji (MIT), own drawings, scikit-image sample photographs",
        "autoencoder": {key: report[key] for key in ("psnr_drawings", "psnr_photos")},
        "generation": _figures(out / "generation" / "log.jsonl"),
        "vision": _figures(out / "vision" / "log.jsonl"),
        "mebibytes": round(size, 2),
        "sha256": {path.name: sha256_file(path) for path in files},
    }
    write_atomic(to / "provenance.json", json.dumps(provenance, indent=1))
    return provenance


def _save(path: Path, state: dict[str, Tensor]) -> None:
    contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
    write_atomic_with(path, lambda temporary: save_file(contiguous, temporary, {"format": "pt"}))


def _figures(log: Path) -> dict[str, Any]:
    """The last line of a stage's log, with that of the shipped weights it began with."""
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    if "shipped" not in lines[0]:
        return lines[-1]
    return lines[-1] | {"began_with": lines[0]["shipped"]} if len(lines) > 1 else lines[0]["shipped"]
