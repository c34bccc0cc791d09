"""What axe-core finds on the page: each screen, light and dark, on a desk and on a phone.

axe-core is no dependency: `npm install axe-core` anywhere, then
`CHARFORGE_AXE=node_modules/axe-core/axe.min.js pytest -m slow tests/test_page_axe.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from page_server import PICTURES, Played, build_app, serving

pytestmark = [pytest.mark.slow, pytest.mark.browser]
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 820}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's script."""
    file = os.environ.get("CHARFORGE_AXE")
    if file is None:
        pytest.skip("needs axe-core: name its axe.min.js in CHARFORGE_AXE")
    return Path(file).read_text("utf-8")


@pytest.mark.parametrize("window", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_on_any_screen(browser: Any, axe: str, colours: str, window: dict[str, Any]) -> None:
    found: list[str] = []
    audited = 0

    def audit(screen: str) -> None:
        nonlocal audited
        page.wait_for_timeout(250)
        page.evaluate(axe)
        result = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        assert len(result["passes"]) > 15, "axe looked at next to nothing"
        found.extend(
            f"{screen}: {one['impact']} {one['id']}: {one['nodes'][0]['html'][:200]}" for one in result["violations"]
        )
        audited += 1

    with serving(build_app(Played(pause=0.03))) as base:
        context = browser.new_context(color_scheme=colours, reduced_motion="reduce", **window)
        page = context.new_page()
        page.goto(base)
        page.wait_for_selector("body[data-ready]")
        audit("start")
        page.click(".person >> nth=0")
        audit("greeting")
        page.fill("#composer-text", "Please draw yourself")
        page.click("#send")
        page.wait_for_selector(".canvas")
        audit("drawing")
        page.wait_for_selector(".message .seed")
        audit("conversation")
        page.click("#options-open")
        audit("options")
        page.click("#options-open")
        page.click(".picture")
        audit("large picture")
        page.keyboard.press("Escape")
        page.click("#switcher")
        audit("switcher")
        page.locator("#switcher-menu button").nth(3).click()
        audit("two characters and a note")
        page.hover(".message.mine")
        page.click(".message.mine >> [data-action=edit]")
        audit("edit")
        page.keyboard.press("Escape")
        page.set_input_files("#attach-files", sorted(PICTURES.glob("*.png"))[:2])
        page.wait_for_selector("#attached li")
        audit("pictures to send")
        page.fill("#composer-text", "busy")
        page.click("#send")
        page.wait_for_selector(".trouble")
        audit("busy")
        if window is PHONE:
            page.click("#sidebar-open")
            audit("list of conversations")
        page.hover("#conversations li")
        page.click("#conversations li button")
        audit("menu")
        page.click("#menu button >> nth=0")
        audit("rename")
        context.close()
    assert found == [] and audited >= 13
