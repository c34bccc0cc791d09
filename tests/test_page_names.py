"""The page in a headless Chromium: names in every script, names that are the same, names that reach for other lines."""

from __future__ import annotations

import io
from typing import Any

from in_browser import answered, begin, browser_test, say, visit
from page_server import MINI, WREN, Played, character
from PIL import Image, ImageChops

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
PERSIAN = "\u0645\u06cc\u200c\u0646\u0627"
MALAYALAM = "\u0d05\u0d35\u0d28\u0d4d\u200d"
"""Ends with a joiner, which gives the last letter its shape."""
FLAG = "\U0001f3f3\ufe0f\u200d\U0001f308"
STACKED = "W" + "\u0300\u0301\u0302\u0303\u0308" * 12 + "ren"


def plain(page: Any, *names: str, longest: int = 80) -> list[str]:
    """What dom.js makes of each name."""
    return page.evaluate(
        """async ([names, longest]) => {
            const { plain } = await import("/page/dom.js");
            return names.map((name) => plain(name, longest));
        }""",
        [names, longest],
    )


@browser_test
def test_names_keep_the_joiners_that_shape_them_and_lose_what_turns_a_line(browser: Any) -> None:
    kept = [FAMILY, PERSIAN, MALAYALAM, FLAG, "\u0915\u094d\u200d\u0937", "Wren", "Zo\u0308e"]
    with visit(browser, Played()) as page:
        assert plain(page, *kept) == kept
        turning = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
        assert plain(page, f"Wr{turning}en", "\u200dWren\u200d", "W\u200d\u200c\u200dren \u200c x") == [
            "Wren",
            "Wren",
            "Wren x",
        ]
        assert plain(page, "a\x1b[1m\nb\u2028c\x00\ufeff\u200bd") == ["a [1m b c d"]
        assert plain(page, FAMILY, longest=3) == ["\U0001f468…"]


@browser_test
def test_two_characters_of_one_name_are_told_apart_by_their_ids(browser: Any) -> None:
    twins = [character(slug, name, greetings=["Hi"]) for slug, name in (("wren-a", "Ann"), ("wren-b", "Ann\u200e"))]
    with visit(browser, Played(models=[WREN, *twins, MINI])) as page:
        cards = page.locator(".person")
        assert [("wren-a" in card, "wren-b" in card) for card in cards.all_inner_texts()] == [
            (False, False),
            (True, False),
            (False, True),
        ]
        assert "mini (" not in page.locator(".base").inner_text()
        begin(page, 1)
        page.get_by_role("button", name="Talk to others").click()
        rows = page.locator("#switcher-menu button").all_inner_texts()
        assert sum("wren-a" in row for row in rows) == 1 and sum("wren-b" in row for row in rows) == 2
        page.locator("#switcher-menu").get_by_role("button", name="wren-b").last.click()
        page.get_by_text("Ann (wren-b) is here too.").wait_for()
        assert page.locator("#who-answers-select option").all_inner_texts()[1:] == ["Ann (wren-a)", "Ann (wren-b)"]
        assert page.locator(".switcher-names").inner_text() == "Ann (wren-a), Ann (wren-b)"
        page.locator("#who-answers-select").select_option("wren-b")
        say(page, "Hello")
        answered(page, 2)
        assert page.locator(".speaker").all_inner_texts() == ["A\nAnn wren-a", "A\nAnn wren-b"]
        assert page.locator("#live").inner_text().startswith("Ann (wren-b): ")


def painted(page: Any, name: Any) -> tuple[int, int, int, int]:
    """Where the letters of ``name`` are painted on the window: left, top, right, bottom in pixels."""

    def seen() -> Image.Image:
        return Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")

    before = seen()
    name.evaluate("(node) => (node.style.color = 'transparent')")
    after = seen()
    name.evaluate("(node) => (node.style.color = '')")
    return ImageChops.difference(before, after).getbbox()


@browser_test
def test_marks_that_pile_up_stay_in_the_line_of_the_name(browser: Any) -> None:
    models = [
        character("wren", STACKED, **{"class": STACKED}, greetings=["Hi"], description=STACKED),
        character("mini", STACKED, bare=True),
    ]
    within = [".person-name", ".person-kind", ".person-words", ".base bdi"]
    with visit(browser, Played(models=models)) as page:

        def assert_within(selector: str) -> None:
            name = page.locator(selector).first
            box = name.bounding_box()
            _, top, _, bottom = painted(page, name)
            assert (top >= box["y"] - 1, bottom <= box["y"] + box["height"] + 1) == (True, True), selector

        for selector in within:
            assert_within(selector)
        begin(page)
        say(page, "Hello")
        answered(page, 2)
        for selector in (".switcher-names", ".speaker bdi"):
            assert_within(selector)
        page.get_by_role("button", name="Talk to others").click()
        assert_within("#switcher-menu bdi")
