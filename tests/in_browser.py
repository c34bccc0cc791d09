"""The page in a headless Chromium: opening it, using it, and what it keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from page_server import Played, build_app, serving

browser_test = pytest.mark.browser
PATIENCE_MS = 20_000


@contextmanager
def visit(browser: Any, played: Played, allowed: str = "$^", **window: Any) -> Iterator[Any]:
    """The page of a server of its own, in a browser that knows nothing yet.

    Fails for anything in the console that does not match ``allowed``, for errors of scripts, and for requests to
    another place.
    """
    with serving(build_app(played)) as base, window_at(browser, base, allowed, **window) as page:
        yield page


@contextmanager
def window_at(browser: Any, base: str, allowed: str = "$^", **window: Any) -> Iterator[Any]:
    """See :func:`visit`, for the page of a server that runs already."""
    said: list[str] = []
    context = browser.new_context(base_url=base, accept_downloads=True, **window)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"script: {error}"))
    foreign = (base, "data:", "blob:")
    page.on("request", lambda asked: None if asked.url.startswith(foreign) else said.append(f"asks {asked.url}"))
    try:
        page.goto("/")
        page.wait_for_selector("body[data-ready], dialog[open]")
        yield page
    finally:
        context.close()
    assert [line for line in said if not re.search(allowed, line)] == []


def begin(page: Any, number: int = 0) -> None:
    page.locator(".person").nth(number).click()
    page.wait_for_selector(".message.theirs")


def say(page: Any, text: str) -> None:
    page.fill("#composer-text", text)
    page.click("#send")


def answered(page: Any, replies: int) -> None:
    """Waits until so many messages of the character stand there, and nobody is writing."""
    page.wait_for_function(
        "(count) => document.querySelectorAll('.message.theirs').length === count && document.title &&"
        " document.querySelector('#send').title === 'Send'",
        arg=replies,
    )


def messages(page: Any) -> list[str]:
    return [words.strip() for words in page.locator(".message .words").all_inner_texts()]


KEPT = """() => new Promise((resolve, reject) => {
    const opened = indexedDB.open("charforge");
    opened.onerror = () => reject(opened.error);
    opened.onsuccess = () => {
        const all = opened.result.transaction("conversations").objectStore("conversations").getAll();
        all.onsuccess = () => {
            opened.result.close();
            resolve(all.result);
        };
    };
})"""


def stored(page: Any) -> list[dict[str, Any]]:
    """The conversations in the browser's store, as they are kept."""
    return page.evaluate(KEPT)


def saved_conversation(page: Any, count: int) -> dict[str, Any]:
    """The only conversation, when its ``count`` messages have been kept."""
    for _ in range(100):
        kept = stored(page)
        if kept and len(kept[0]["messages"]) == count:
            return kept[0]
        page.wait_for_timeout(50)
    raise AssertionError(f"not kept: {count} messages")


def picture_width(image: Any) -> int:
    """Pixels of a picture that really stands there."""
    return image.evaluate("(image) => image.decode().then(() => image.naturalWidth)")


def waits(page: Any, condition: str) -> None:
    """Waits until the JavaScript expression is true."""
    page.wait_for_function(f"() => {condition}")
