"""``charforge.json`` of every version that there was -> that of today."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from charforge.bundle.manifest import FORMAT_VERSION

Document = dict[str, Any]
ASSET_TYPE = "x_charforge"


def _from_version_1(manifest: Document) -> Document:
    """Version 2 only adds: where the base was published, and how pictures are drawn; neither is known here."""
    return manifest | {"format_version": 2}


STEPS: Mapping[int, Callable[[Document], Document]] = {1: _from_version_1}
"""From each older version to the next."""


def is_readable(version: object) -> bool:
    """Whether a manifest of this version can be read. True and 1.0 are no versions."""
    return type(version) is int and (version == FORMAT_VERSION or version in STEPS)


def as_today(manifest: Document) -> Document:
    """The manifest in the format of today. Its version is one that :func:`is_readable` accepts."""
    while manifest["format_version"] != FORMAT_VERSION:
        manifest = STEPS[manifest["format_version"]](manifest)
    return manifest


def card_of_today(card: Document) -> Document:
    """The card without the adapter among its assets: bundles of version 1 list it there. Anything else stays."""
    data = card.get("data")
    assets = data.get("assets") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(assets, list):
        return card
    kept = [asset for asset in assets if not (isinstance(asset, dict) and asset.get("type") == ASSET_TYPE)]
    return {**card, "data": {**data, "assets": kept}}
