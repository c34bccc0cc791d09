"""A headless Chromium for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of playwright's. Skips the test where playwright or a Chromium is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra browser-test: playwright")
    with api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        found = next((path for name in NAMES if (path := shutil.which(name))), None) or (own if own.exists() else None)
        if found is None:
            pytest.skip("needs a Chromium: install one, or run `playwright install chromium`")
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
