"""Writing a bundle: same inputs, same bytes."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charforge.bundle.card import character_card
from charforge.bundle.manifest import ADAPTER, ADAPTER_CONFIG, AVATAR, CARD, MANIFEST, README, Manifest
from charforge.bundle.readme import bundle_readme
from charforge.character import Dialogue
from charforge.files import write_atomic_with

# the earliest time a zip can hold: the same content gives the same file on any day
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_bundle(
    path: Path, manifest: Manifest, adapter_folder: Path, dialogues: tuple[Dialogue, ...], avatar_png: bytes,
    card: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write ``path`` (.charx) from the adapter files in ``adapter_folder``. The manifest's members are filled in.

    ``card`` is the document of the card that the character came from, if it came from one.
    """
    members = {
        CARD: json_bytes(character_card(manifest, dialogues, card)),
        AVATAR: avatar_png,
        ADAPTER: (adapter_folder / "adapter_model.safetensors").read_bytes(),
        ADAPTER_CONFIG: (adapter_folder / "adapter_config.json").read_bytes(),
    }
    return write_members(path, manifest, members)


def write_members(path: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> Path:
    """Write ``path`` from its members; README and manifest, with the hashes of all others, are made here."""
    members = {**contents, README: bundle_readme(manifest).encode()}
    members.pop(MANIFEST, None)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(members.items())}
    members[MANIFEST] = json_bytes(manifest.model_copy(update={"members": hashes}).model_dump())

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w") as archive:
            # the card first: readers that stop early find it
            for name in sorted(members, key=lambda member: (member != CARD, member)):
                info = zipfile.ZipInfo(name, EPOCH)
                # zipfile says on which system it ran
                info.create_system = 3
                info.external_attr = 0o644 << 16
                # pictures and weights do not get smaller
                packed = name.endswith((".png", ".safetensors"))
                info.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
                archive.writestr(info, members[name])

    write_atomic_with(path, write)
    return path


def json_bytes(value: Any) -> bytes:
    """A document as a bundle holds it: the same value gives the same bytes."""
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).encode()
