"""The page in a headless Chromium: names in every script, as they are shown."""

from __future__ import annotations

from typing import Any

from in_browser import answered, begin, browser_test, say, visit
from page_server import MINI, WREN, Played, character

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
PERSIAN = "\u0645\u06cc\u200c\u0646\u0627"
MALAYALAM = "\u0d05\u0d35\u0d28\u0d4d\u200d"
"""Ends with a joiner, which gives the last letter its shape."""
FLAG = "\U0001f3f3\ufe0f\u200d\U0001f308"


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
        piled = "Z" + "\u0316\u0301" * 20 + "o"
        assert plain(page, piled, "e\u0323\u0302\u0301") == ["Z\u0316\u0301\u0316\u0301\u0316o", "e\u0323\u0302\u0301"]
        assert plain(page, FAMILY, longest=3) == ["\U0001f468…"]


@browser_test
def test_two_characters_of_one_name_are_told_apart_by_their_ids(browser: Any) -> None:
    twins = [character(slug, name, greetings=["Hi"]) for slug, name in (("ann-a", "Ann"), ("ann-b", "Ann\u200e"))]
    with visit(browser, Played(models=[WREN, *twins, MINI])) as page:
        shown = page.locator(".person-name").all_inner_texts()
        assert shown == ["Wren", "Ann (ann-a)", "Ann (ann-b)"]
        begin(page, 2)
        say(page, "Hello")
        answered(page, 2)
        assert "Ann (ann-b)" in page.locator(".speaker").last.inner_text()
