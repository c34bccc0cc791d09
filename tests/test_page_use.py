"""The page in a headless Chromium: phones, keyboards, screen readers, light and dark."""

from __future__ import annotations

import re
from typing import Any

from in_browser import answered, begin, browser_test, messages, say, visit, waits
from page_server import Played, build_app, serving

# how it looks and how it is used


@browser_test
def test_on_a_phone_everything_is_within_the_window(browser: Any) -> None:
    window = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
    with visit(browser, Played(), **window) as page:
        begin(page)
        say(page, f"Please draw yourself {'m' * 300}")
        answered(page, 2)
        page.wait_for_selector(".picture img")
        assert page.evaluate("Math.max(document.scrollingElement.scrollWidth, thread.scrollWidth)") <= 360
        box = page.locator("#composer").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["y"] + box["height"] <= 640
        assert not page.locator("#sidebar").is_visible() and page.evaluate("document.querySelector('#sidebar').inert")
        page.get_by_role("button", name="Conversations", exact=True).click()
        page.locator("#sidebar").get_by_role("link", name="New conversation").wait_for()
        assert page.evaluate("[document.querySelector('#main').inert, document.activeElement.id]") == [
            True,
            "sidebar-close",
        ]
        page.keyboard.press("Escape")
        waits(page, "getComputedStyle(document.querySelector('#sidebar')).visibility === 'hidden'")
        assert page.evaluate("document.activeElement.id") == "sidebar-open"


@browser_test
def test_everything_can_be_done_by_keyboard_and_is_said_to_a_screen_reader(browser: Any) -> None:
    with visit(browser, Played()) as page:

        def tab_to(wanted: str, back: bool = False) -> None:
            for _ in range(40):
                page.keyboard.press("Shift+Tab" if back else "Tab")
                focused = page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent")
                if wanted in focused:
                    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                    assert outline != "none", f"the focus on {wanted} is not to be seen"
                    return
            raise AssertionError(f"{wanted} is not reached by the keyboard")

        tab_to("Wren")
        page.keyboard.press("Enter")
        waits(page, "document.activeElement.id === 'composer-text'")
        page.keyboard.type("Hello")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("there, please draw")
        page.keyboard.press("Enter")
        answered(page, 2)
        assert messages(page)[1] == "Hello\nthere, please draw"
        live = page.locator("#live").inner_text()
        assert live.startswith("Wren: By my left spanner!") and live.endswith("With a picture.")
        page.locator("#skip").press("Enter")
        assert page.evaluate("document.activeElement.id") == "composer-text" and len(messages(page)) == 3
        tab_to("Show it large", back=True)
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open] img")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save").press("Enter")
        assert re.fullmatch(r"wren-\d+\.png", download.value.suggested_filename)
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        assert "Show it large" in page.evaluate("document.activeElement.ariaLabel")
        tab_to("Delete")
        tab_to("More for Hello", back=True)
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.textContent") == "Rename"
        page.keyboard.press("Enter")
        page.keyboard.type("A morning")
        page.keyboard.press("Enter")
        page.get_by_label("More for A morning").wait_for()
        tab_to("More for A morning", back=True)
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.get_by_text("Deleted: A morning").wait_for()
        assert page.locator("#conversations li").count() == 0 and page.locator("#start").is_visible()
        page.get_by_role("button", name="Undo").press("Enter")
        page.wait_for_selector(".message.mine")


@browser_test
def test_light_and_dark_follow_the_system_until_one_is_chosen(browser: Any) -> None:
    with visit(browser, Played(), color_scheme="dark") as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(ground)
        page.locator("#theme input[value=light]").check(force=True)
        light = page.evaluate(ground)
        assert dark != light
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert page.evaluate(ground) == light and page.locator("#theme input[value=light]").is_checked()
        page.emulate_media(color_scheme="light")
        page.locator("#theme input[value=system]").check(force=True)
        assert page.evaluate(ground) == light


@browser_test
def test_a_browser_that_keeps_nothing_says_so(browser: Any) -> None:
    with serving(build_app(Played())) as base:
        page = browser.new_page(base_url=base)
        refuse = "{ get() { throw new DOMException('no', 'SecurityError') } }"
        page.add_init_script(f"Object.defineProperty(window, 'indexedDB', {refuse})")
        page.goto("/")
        page.wait_for_selector("body[data-ready]")
        assert "keeps nothing for this page (SecurityError)" in page.locator("#notice").inner_text()
        begin(page)
        say(page, "Hello")
        answered(page, 2)
        page.close()
