"""Cards as other programs write them: a CHARX without an adapter. PNG and JSON are what ``charforge export`` writes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from charforge.character.cards.write import as_v2, card_json, card_png

_EPOCH = (1980, 1, 1, 0, 0, 0)

__all__ = ["as_v2", "card_charx", "card_json", "card_png"]


def card_charx(document: Mapping[str, Any], assets: Mapping[str, bytes]) -> bytes:
    """A CHARX with ``assets`` (member name -> bytes) beside the card; the same input gives the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in [("card.json", card_json(document)), *sorted(assets.items())]:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
            archive.writestr(info, data)
    return out.getvalue()
