"""Where bases are kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``CHARFORGE_CACHE``, or the user's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("CHARFORGE_CACHE") or user_cache_dir("charforge"))


def base_folder(name: str) -> Path:
    """Where the pulled base ``name`` lives."""
    return cache_folder() / "bases" / name
