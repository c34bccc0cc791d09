"""A bundle before it is written again: renewed, with parts left out, with an adapter of a smaller rank."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from charforge.bundle import Bundle, Manifest
from charforge.bundle.card import character_card
from charforge.bundle.manifest import ADAPTER, ADAPTER_CONFIG, AVATAR, CARD, SPRITES, sprites_among
from charforge.bundle.write import json_bytes, write_members
from charforge.errors import InputError
from charforge.export.rank import Reduction, reduce_rank
from charforge.pixels import initial


def renewed(bundle: Bundle) -> Bundle:
    """The bundle with the card that this charforge writes: what an older one said stays, what it lacked is added."""
    return replace(bundle, card=character_card(bundle.manifest, (), bundle.card, bundle.contents))


def write_again(path: Path, bundle: Bundle) -> Path:
    """Write ``bundle`` as a .charx; the same bundle gives the same bytes."""
    return write_members(path, bundle.manifest, {**bundle.contents, CARD: json_bytes(bundle.card)})


# leaving out


def _without_pictures(bundle: Bundle) -> Bundle:
    out = io.BytesIO()
    initial(bundle.manifest.character.name).save(out, "PNG")
    bare = _without_sprites(bundle)
    return renewed(replace(bare, contents={**bare.contents, AVATAR: out.getvalue()}))


def _without_sprites(bundle: Bundle) -> Bundle:
    drawn = set(sprites_among(bundle.contents).values())
    return replace(bundle, contents={name: data for name, data in bundle.contents.items() if name not in drawn})


def with_sprites(bundle: Bundle, pictures: Mapping[str, bytes]) -> Bundle:
    """The bundle with ``pictures`` (PNG by expression) beside its card; those that it had are gone."""
    bare = _without_sprites(bundle)
    added = {f"{SPRITES}{label}.png": png for label, png in pictures.items()}
    return renewed(replace(bare, contents={**bare.contents, **added}))


def _without_facts(bundle: Bundle) -> Bundle:
    character = bundle.manifest.character.model_copy(update={"facts": ()})
    data = {key: value for key, value in bundle.card["data"].items() if key != "character_book"}
    return replace(_with(bundle, character=character), card={**bundle.card, "data": data})


def _without_dialogues(bundle: Bundle) -> Bundle:
    silent = {"mes_example": "", "alternate_greetings": [], "group_only_greetings": []}
    return replace(bundle, card={**bundle.card, "data": {**bundle.card["data"], **silent}})


def _without_evaluation(bundle: Bundle) -> Bundle:
    # the card has them too
    return renewed(_with(bundle, evaluation={}))


def _without_settings(bundle: Bundle) -> Bundle:
    return _with(bundle, training=bundle.manifest.training.model_copy(update={"settings": {}}))


def _with(bundle: Bundle, **values: Any) -> Bundle:
    return replace(bundle, manifest=bundle.manifest.model_copy(update=values))


PARTS: Mapping[str, tuple[str, Callable[[Bundle], Bundle]]] = {
    "pictures": ("the avatar, in whose place an initial stands, and the expressions", _without_pictures),
    "facts": ("what the character knows, and the card's lorebook", _without_facts),
    "dialogues": ("the example dialogues and other greetings of the card", _without_dialogues),
    "evaluation": ("the figures that were measured", _without_evaluation),
    "settings": ("the settings of the run", _without_settings),
}
"""What can be left out: in words, and how."""


def without(bundle: Bundle, parts: Iterable[str]) -> Bundle:
    """The bundle less ``parts``. Raises InputError for one that is not in :data:`PARTS`."""
    for part in parts:
        if part not in PARTS:
            raise InputError(f"--without {part}: this cannot be left out; there are {', '.join(PARTS)}")
        bundle = PARTS[part][1](bundle)
    return bundle


# a smaller rank


def with_rank(bundle: Bundle, rank: int) -> tuple[Bundle, Reduction]:
    """The bundle with an adapter of ``rank``, and what that costs. Raises InputError unless it is smaller."""
    own = bundle.manifest.adapter
    if not 0 < rank < own.rank:
        raise InputError(f"--rank {rank}: the adapter has rank {own.rank}; name a smaller one, or leave --rank out")
    state = load(bundle.contents[ADAPTER])
    reduction = reduce_rank(state, own.alpha / own.rank, rank)
    config = json.loads(bundle.contents[ADAPTER_CONFIG]) | {"r": rank, "lora_alpha": rank}
    # the strength is inside the matrices now: alpha / rank is 1
    info = own.model_copy(update={"rank": rank, "alpha": rank, "trained_rank": own.trained_rank or own.rank})
    contents = {
        **bundle.contents,
        ADAPTER: save(reduction.state, {"format": "pt"}),
        ADAPTER_CONFIG: json.dumps(config, indent=2, sort_keys=True).encode(),
    }
    manifest: Manifest = bundle.manifest.model_copy(update={"adapter": info})
    return replace(bundle, manifest=manifest, contents=contents), reduction
