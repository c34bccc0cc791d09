"""A bundle as a folder: the adapter for stock peft, or the whole weights with the adapter inside."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import load

from charforge.adapter.names import CONFIG, PREFIX, WEIGHTS
from charforge.bases.hashes import content_hash, other_weights
from charforge.bases.where import find_base
from charforge.bundle import Bundle
from charforge.bundle.manifest import ADAPTER, ADAPTER_CONFIG, AVATAR
from charforge.bundle.readme import shown_base
from charforge.errors import InputError
from charforge.export.model_card import merged_card, peft_card, published_base
from charforge.families import family_of
from charforge.families.protocol import MergedPrecision
from charforge.files import write_atomic
from charforge.low_rank import Addition

CARD = "README.md"
AVATAR_FILE = "avatar.png"


def check_folder(folder: Path, option: str) -> None:
    """Raise InputError unless ``folder`` is empty or not there: an export mixes with nobody's files."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{option} {folder}: it is no folder; name one that is empty or not there yet")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{option} {folder}: it is not empty; name one that is empty or not there yet")


def write_peft(folder: Path, bundle: Bundle, pictures: Mapping[str, bytes], charx: str | None = None) -> None:
    """The adapter as stock peft loads it, ``pictures`` (PNG by file name) and a README.md, which is written last.

    ``charx`` is the name of a bundle that will lie beside it.
    """
    origin = published_base(bundle.manifest.base)
    config = json.loads(bundle.contents[ADAPTER_CONFIG]) | {
        "base_model_name_or_path": origin.repository or shown_base(bundle.manifest.base.name),
        "revision": origin.revision,
    }
    write_atomic(folder / WEIGHTS, bundle.contents[ADAPTER])
    write_atomic(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True))
    shown = {AVATAR_FILE: bundle.contents[AVATAR], **pictures}
    for name, png in shown.items():
        write_atomic(folder / name, png)
    write_atomic(folder / CARD, peft_card(bundle.manifest, list(shown), charx))


def additions_of(bundle: Bundle) -> dict[str, Addition]:
    """(A, B, strength) by linear."""
    state, info = load(bundle.contents[ADAPTER]), bundle.manifest.adapter
    linears = [name.removesuffix(".lora_A.weight") for name in state if name.endswith(".lora_A.weight")]
    return {
        linear.removeprefix(PREFIX): (
            state[f"{linear}.lora_A.weight"], state[f"{linear}.lora_B.weight"], info.alpha / info.rank,
        )
        for linear in linears
    }  # fmt: skip


def write_merged(folder: Path, bundle: Bundle, precision: MergedPrecision, report: Callable[[int, int], None]) -> None:
    """The base's weights with the adapter added, in the layout in which the base is published.

    Raises InputError when the base here is not the one that the adapter was trained on, or has no such layout, and
    MachineError when it is not here.
    """
    base = bundle.manifest.base
    files = find_base(base.name)
    family = family_of(files.config_folder)
    here = content_hash(list(files.identity))
    if here != base.content_hash:
        raise InputError(f"{bundle.path} {other_weights(base.name, base.content_hash, here)}")
    family.merge(files, additions_of(bundle), folder, precision, report)
    write_atomic(folder / CARD, merged_card(bundle.manifest, precision))
