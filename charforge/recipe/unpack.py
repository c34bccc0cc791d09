"""The inverse of packing: the shipped weights as checkpoints, so that every stage can go on from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from charforge.errors import InputError
from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.checkpoint import unrounded
from charforge.families.bagel.config import read_config
from charforge.files import write_atomic, write_atomic_with
from charforge.recipe.answers import ALPHA, RANK


def unpack_base(base: Path, out: Path) -> None:
    """Write ``checkpoint.safetensors`` of autoencoder, vision and generation below ``out``, at step 0, and a log that
    begins with what is known of the shipped weights.

    Optimiser moments do not ship: they start afresh. Raises InputError when a checkpoint is already there.
    """
    autoencoder = Autoencoder(read_config(base).autoencoder)
    autoencoder.load_official(
        {n: t.float() for n, t in load_file(base / "autoencoder.safetensors").items()}, assign=True
    )
    vision = unrounded(load_file(base / "vision.safetensors"))
    vision |= {
        f"{name}.default.weight": tensor / (ALPHA / RANK) if name.endswith(".lora_B") else tensor
        for name, tensor in unrounded(load_file(base / "reading.safetensors")).items()
    }
    generation = unrounded(load_file(base / "generation.safetensors"))
    fixed = ("latent_pos_embed.", "vit_pos_embed.")
    stages: dict[str, dict[str, Tensor]] = {
        "autoencoder": dict(autoencoder.kl.named_parameters()),
        "vision": vision,
        "generation": generation,
    }
    taken = [out / stage / "checkpoint.safetensors" for stage in stages]
    if there := [str(file) for file in taken if file.exists()]:
        raise InputError(f"{', '.join(there)} would be overwritten: name another working folder with --out")
    for file, state in zip(taken, stages.values(), strict=True):
        kept = {name: tensor.detach().contiguous() for name, tensor in state.items() if not name.startswith(fixed)}
        checkpoint = {f"{copy}.{name}": tensor.clone() for copy in ("now", "ema") for name, tensor in kept.items()}
        write_atomic_with(file, _saver(checkpoint))
    known = json.loads((base / "provenance.json").read_text("utf-8"))
    for stage in ("vision", "generation"):
        write_atomic(out / stage / "log.jsonl", json.dumps({"shipped": known[stage]}) + "\n")


def _saver(state: dict[str, Tensor]) -> Callable[[Path], object]:
    return lambda path: save_file(state, path, {"step": "0", "seconds": "0"})
