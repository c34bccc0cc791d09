"""Where a base keeps what it drew and answered itself: once for all characters."""

from __future__ import annotations

import hashlib
from pathlib import Path

from charforge.bases.base import Base
from charforge.bases.cache import cache_folder


def cached_folder(base: Base) -> Path:
    """The folder of ``base``: another one for every precision and size at which it draws otherwise."""
    how = f"{base.content_hash}:{base.precision}:{base.model.drawing}"
    return cache_folder() / "replay" / hashlib.sha256(how.encode()).hexdigest()[:24]
