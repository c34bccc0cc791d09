"""Writing a bundle: same inputs, same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from charforge.bundle.manifest import ADAPTER, ADAPTER_CONFIG, AVATAR, CARD, MANIFEST, README, Manifest
from charforge.character import Dialogue
from charforge.character.cards.write import as_v3
from charforge.files import write_atomic

# what an imported card never decides
OURS = ("name", "assets", "extensions")
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
        CARD: _json(character_card(manifest, dialogues, card)),
        AVATAR: avatar_png,
        ADAPTER: (adapter_folder / "adapter_model.safetensors").read_bytes(),
        ADAPTER_CONFIG: (adapter_folder / "adapter_config.json").read_bytes(),
        README: _readme(manifest).encode(),
    }
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(members.items())}
    members[MANIFEST] = _json(manifest.model_copy(update={"members": hashes}).model_dump())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        # the card first: readers that stop early find it
        for name in sorted(members, key=lambda member: (member != CARD, member)):
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = 0o644 << 16
            # pictures and weights do not get smaller
            packed = name.endswith((".png", ".safetensors"))
            info.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            archive.writestr(info, members[name])
    write_atomic(path, out.getvalue())
    return path


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).encode()


def character_card(
    manifest: Manifest, dialogues: tuple[Dialogue, ...], original: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A Character Card V3 with all V2 fields too, as front ends really read them.

    ``original`` is the document of the card that the character came from: what it says stays, unknown keys and
    extensions included; only the name, the assets and our own extension are new.
    """
    who = manifest.character
    description = "\n".join(part for part in (f"{who.name}, {who.class_noun}.", who.persona, who.appearance) if part)
    entries = [
        {
            "keys": [], "content": fact, "extensions": {}, "enabled": True, "insertion_order": number,
            "use_regex": False, "constant": True,
        }
        for number, fact in enumerate(who.facts)
    ]  # fmt: skip
    data: dict[str, Any] = {
        "name": who.name,
        "description": description,
        "personality": who.voice,
        "scenario": "",
        "first_mes": who.opening,
        "mes_example": _examples(dialogues[:8]),
        "creator_notes": f"Made with charforge {manifest.charforge_version}: this card is also a model adapter.",
        "system_prompt": "",
        "post_history_instructions": "",
        "alternate_greetings": [],
        "group_only_greetings": [],
        "tags": [],
        "creator": who.author,
        "character_version": "1",
        "extensions": {"charforge/license": who.license},
        "assets": [
            {"type": "icon", "uri": f"embeded://{AVATAR}", "name": "main", "ext": "png"},
            {"type": "x_charforge", "uri": f"embeded://{ADAPTER}", "name": "adapter", "ext": "safetensors"},
        ],
    }
    if entries:
        data["character_book"] = {"extensions": {}, "entries": entries}
    if original is not None:
        before = original["data"]
        kept = {key: value for key, value in before.items() if value not in ("", None, []) and key not in OURS}
        foreign = before.get("extensions")
        data = {**data, **kept, "extensions": {**(foreign if isinstance(foreign, dict) else {}), **data["extensions"]}}
        return as_v3({**original, "data": data})
    return as_v3({"data": data})


def _examples(dialogues: tuple[Dialogue, ...]) -> str:
    blocks = []
    for dialogue in dialogues:
        lines = [f"{'{{user}}' if turn.role == 'user' else '{{char}}'}: {turn.text}" for turn in dialogue.turns]
        blocks.append("\n".join(["<START>", *lines]))
    return "\n".join(blocks)


def _readme(manifest: Manifest) -> str:
    who, base = manifest.character, manifest.base
    return f"""# {who.name}

{who.name}, {who.class_noun}. By {who.author or "unknown"}, licence: {who.license or "not stated"}.

This file is an ordinary character card (Character Card V3) and, with charforge, a character that speaks and draws
itself:

    charforge chat {who.name.lower().replace(" ", "-")}.charx

It fits the base `{base.name}` ({base.content_hash[:12]}, {base.precision}) and no other. It holds no training pictures.
"""
