"""The page in a headless Chromium, in front of a server that plays replies back."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import chromium
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_server import HOSTILE, PAGE, PICTURES, WREN, Played, build_app, serving
from PIL import Image
from served import served, tiny_engine, tiny_seats

from charforge.chat.conversation import Conversation, reply_of
from charforge.chat.group import Line
from charforge.chat.logs import load_conversation, save_conversation
from charforge.serve.guard import Access

browser_test = pytest.mark.browser
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


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


# what needs no browser


def test_the_page_is_small_and_takes_nothing_from_elsewhere() -> None:
    files = [file for file in PAGE.iterdir() if file.is_file()]
    assert {"index.html", "style.css", "app.js"} <= {file.name for file in files}
    for file in files:
        text = file.read_text("utf-8")
        assert len(text.splitlines()) <= 400, file.name
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file.name
    assert sum(file.stat().st_size for file in files) < 200_000


def test_nothing_from_outside_can_become_markup_or_script() -> None:
    for file in PAGE.glob("*.js"):
        opens = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
        assert not re.search(opens, file.read_text("utf-8")), file
    page = (PAGE / "index.html").read_text("utf-8")
    # the policy would refuse them: scripts and styles stand in files of their own
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)", page)


# conversations


@browser_test
def test_a_conversation_with_a_picture_outlives_a_reload(browser: Any) -> None:
    played = Played()
    with visit(browser, played) as page:
        begin(page)
        say(page, "Good morning!")
        answered(page, 2)
        say(page, "Please draw yourself")
        answered(page, 3)
        picture = page.locator(".message.theirs .picture img")
        assert picture_width(picture) == 256
        assert picture.get_attribute("alt") == "Wren, a girl, smiling, in her workshop"
        assert page.get_by_text("Likeness 0.93").is_visible()
        say(page, "Thank you")
        answered(page, 4)
        before = messages(page)
        assert before[2].startswith("By my left spanner! She grins.") and f"{played.asked[0]['seed']}." in before[2]
        saved_conversation(page, 7)
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert messages(page) == before
        assert picture_width(page.locator(".message .picture img")) == 256
        assert page.locator("#conversations li").count() == 1
    asked = played.asked[-1]
    assert [message["role"] for message in asked["messages"]] == ["assistant", "user"] * 3
    assert asked["messages"][4]["plan"] == "Wren, a girl, smiling, in her workshop"
    assert (asked["model"], asked["stream"], asked["pictures"]) == ("wren", True, "auto")


@browser_test
def test_the_ring_and_the_preview_show_how_far_a_picture_is(browser: Any) -> None:
    with visit(browser, Played(pause=0.1)) as page:
        begin(page)
        say(page, "draw")
        page.wait_for_selector(".canvas img.preview")
        done = int(page.locator("[role=progressbar]").get_attribute("aria-valuenow"))
        assert 30 <= done <= 100
        assert re.fullmatch(r"Step \d+ of 12", page.locator(".step").inner_text())
        answered(page, 2)
        assert page.locator(".canvas").count() == 0


@browser_test
def test_another_greeting_can_be_chosen_before_anything_is_said(browser: Any) -> None:
    played = Played()
    with visit(browser, played) as page:
        begin(page)
        assert stored(page) == []
        page.get_by_label("Next greeting").click()
        page.locator(".words").get_by_text("The lighthouse door creaks open.").wait_for()
        say(page, "Hello")
        answered(page, 2)
        assert page.get_by_label("Next greeting").count() == 0
    assert played.asked[0]["messages"][0]["content"].startswith("*The lighthouse door creaks open.*")


@browser_test
def test_retry_takes_another_seed_and_keeps_the_first_answer(browser: Any) -> None:
    played = Played()
    with visit(browser, played) as page:
        begin(page)
        say(page, "Hello")
        answered(page, 2)
        first = messages(page)[-1]
        page.get_by_label("Try again with another seed").click()
        page.get_by_text("2 of 2").wait_for()
        answered(page, 2)
        second = messages(page)[-1]
        assert first != second
        page.get_by_label("Previous answer").click()
        page.get_by_text("1 of 2").wait_for()
        assert messages(page)[-1] == first
        # who leafs by keyboard stays at the buttons
        assert page.evaluate("document.activeElement.closest('.message') !== null")
    one, two = played.asked
    assert one["seed"] != two["seed"] and one["messages"] == two["messages"]


@browser_test
def test_an_edited_message_is_answered_anew_and_what_followed_is_gone_until_undone(browser: Any) -> None:
    played = Played()
    with visit(browser, played) as page:
        begin(page)
        for number, text in enumerate(("One", "Two")):
            say(page, text)
            answered(page, number + 2)
        before = messages(page)
        page.locator(".message.mine").first.get_by_label("Edit").click()
        page.get_by_label("Words of this message").fill("Something else")
        assert page.get_by_text("The 3 messages after it will be removed.").is_visible()
        page.get_by_role("button", name="Save and send").click()
        answered(page, 2)
        assert messages(page)[1] == "Something else" and len(messages(page)) == 3
        page.get_by_role("button", name="Undo").click()
        answered(page, 3)
        assert messages(page) == before
        page.locator(".message.theirs").last.get_by_label("Edit").click()
        page.get_by_label("Words of this message").fill("Other words of hers")
        page.keyboard.press("Control+Enter")
        page.locator(".message.theirs").last.get_by_text("Other words of hers").wait_for()
    assert [message["content"] for message in played.asked[2]["messages"]][1:] == ["Something else"]


@browser_test
def test_stop_ends_the_work_of_the_server_and_keeps_what_was_said(browser: Any) -> None:
    played = Played()
    with visit(browser, played) as page:
        begin(page)
        say(page, "a long story")
        page.locator(".words").get_by_text("word9 ").wait_for()
        page.get_by_role("button", name="Stop", exact=True).click()
        answered(page, 2)
        page.get_by_text("Stopped").wait_for()
        assert messages(page)[-1].startswith("word0 word1")
        for _ in range(100):
            if played.left:
                break
            page.wait_for_timeout(50)
        assert played.left == ["a long story"]
        page.get_by_label("Continue: the character speaks again").click()
        answered(page, 3)
        # nothing but what was read of the first answer is told to the model
        assert played.asked[1]["messages"][-1]["role"] == "assistant"
        assert len(played.asked[1]["messages"][-1]["content"]) < 5000
        page.locator(".message.theirs").last.get_by_label("Delete").click()
        answered(page, 2)
        page.get_by_role("button", name="Undo").click()
        answered(page, 3)
        say(page, "another long story")
        page.locator(".message").last.get_by_text("word9 ").wait_for()
        page.keyboard.press("Escape")
        answered(page, 4)


@browser_test
def test_a_reply_that_is_cut_off_by_the_end_of_the_page_is_kept(browser: Any) -> None:
    with visit(browser, Played()) as page:
        begin(page)
        say(page, "a long story")
        page.locator(".words").get_by_text("word20 ").wait_for()
        page.wait_for_timeout(1200)
        page.reload()
        page.get_by_text("Stopped").wait_for()
        assert messages(page)[-1].startswith("word0 word1")


@browser_test
def test_the_page_talks_to_the_real_server(browser: Any) -> None:
    access = Access(key="sesame")
    with served(tiny_engine(), access) as base, window_at(browser, base, allowed="401") as page:
        page.get_by_role("textbox", name="Key").fill("sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-ready]")
        begin(page)
        page.click("#options-open")
        page.get_by_label("Always").check()
        page.get_by_label("Seed of the next answer").fill("3")
        say(page, "Hello")
        answered(page, 2)
        assert picture_width(page.locator(".message .picture img")) == 16
        page.get_by_label("Try again with another seed").click()
        page.get_by_text("2 of 2").wait_for()
        page.get_by_role("button", name="Seed 4. Use it for the next answer").wait_for()
        page.fill("#composer-text", "in the rain")
        page.get_by_label("Draw what is written, without a reply").click()
        page.get_by_text("Drawn: in the rain").last.wait_for()
        answered(page, 3)
        assert page.locator(".message .picture img").count() == 2 and page.locator(".trouble").count() == 0


@browser_test
def test_the_same_seed_says_the_same_in_the_terminal_through_the_interface_and_on_the_page(browser: Any) -> None:
    (seat, _) = tiny_seats()
    terminal = reply_of(Conversation(seat.session, pictures="never").say("Hello", 3)).text
    body = {"model": "wren", "messages": [{"role": "user", "content": "Hello"}], "seed": 3, "pictures": "never"}
    with served(tiny_engine()) as base, window_at(browser, base) as page:
        answer = httpx.post(f"{base}/v1/chat/completions", json=body, timeout=60).json()
        begin(page)
        # the terminal shows the greeting, and does not read it to the model
        page.get_by_label("Delete").click()
        page.click("#options-open")
        page.get_by_label("Never").check()
        page.get_by_label("Seed of the next answer").fill("3")
        say(page, "Hello")
        answered(page, 1)
        (_, reply) = saved_conversation(page, 2)["messages"]
    (version,) = reply["versions"]
    assert version["text"] == answer["choices"][0]["message"]["content"] == terminal != ""


# what goes wrong


@browser_test
def test_a_busy_server_is_told_and_asked_again(browser: Any) -> None:
    played = Played()
    with visit(browser, played, allowed="429") as page:
        begin(page)
        say(page, "are you busy?")
        alert = page.locator(".trouble")
        alert.get_by_text("The server is busy: eight others are waiting").wait_for()
        again = alert.get_by_role("button", name="Try again")
        assert re.fullmatch(r"Try again \(best in [12] s\)", again.inner_text())
        again.click()
        answered(page, 2)
        assert page.locator(".trouble").count() == 0 and len(played.asked) == 2


@browser_test
def test_an_error_within_a_reply_keeps_what_came_before_it(browser: Any) -> None:
    with visit(browser, Played()) as page:
        begin(page)
        say(page, "break")
        page.locator(".trouble").get_by_text("the card ran out of memory").wait_for()
        assert messages(page)[-1] == "By my left spanner!"
        page.get_by_label("Dismiss").click()
        page.locator(".trouble").wait_for(state="detached")


@browser_test
def test_a_key_is_asked_for_once_and_sent_with_everything(browser: Any) -> None:
    played = Played(key="sesame")
    with visit(browser, played, allowed="401") as page:
        page.get_by_role("textbox", name="Key").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("is not the right one").wait_for()
        page.get_by_role("textbox", name="Key").fill("sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-ready]")
        page.wait_for_selector(".person .avatar img")
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert page.locator("dialog").count() == 0
        begin(page)
        say(page, "Hello")
        answered(page, 2)


@browser_test
def test_a_server_without_characters_and_one_that_is_gone_are_told(browser: Any) -> None:
    played = Played(models=[])
    with visit(browser, played, allowed="Failed to load resource") as page:
        page.get_by_text("This server has no characters.").wait_for()
        page.route("**/v1/**", lambda route: route.abort())
        page.get_by_role("button", name="Look again").click()
        page.get_by_text("The server cannot be reached.").wait_for()
        page.unroute("**/v1/**")
        played.models.append(WREN)
        page.get_by_role("button", name="Try again").click()
        page.locator(".person").wait_for()


@browser_test
def test_hostile_names_stand_there_and_do_nothing(browser: Any) -> None:
    with visit(browser, Played()) as page:
        begin(page, 2)
        say(page, f"Hello {HOSTILE}")
        answered(page, 2)
        page.get_by_role("button", name="Talk to others").click()
        assert page.locator("#switcher-menu button").count() == 5
        assert page.title() != "taken" and "<img src=x" in page.title()
        assert page.locator("img[src='x']").count() == 0 and page.locator("body script").count() == 0
        name = page.locator(".speaker bdi").first.inner_text()
        assert name.startswith("<img src=x onerror=") and "\u202e" not in name and "\x1b" not in name
        labelled = page.locator("[aria-label], [title]")
        labels = labelled.evaluate_all("(all) => all.map((one) => one.ariaLabel + one.title)")
        assert not any("\u202e" in label or "\x1b" in label for label in labels)
        # what was said stands as it was said, and turns nothing but its own paragraph
        assert page.locator(".words p[dir=auto]").first.inner_text().endswith("</script>")
        assert page.locator(".words").evaluate_all("(all) => all.every((one) => !one.querySelector('img, script'))")


# what the user sends


def png(width: int, height: int) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(held, "PNG")
    return held.getvalue()


@browser_test
def test_pictures_are_sent_by_button_paste_and_drop_and_made_smaller(browser: Any) -> None:
    played = Played()
    with visit(browser, played) as page:
        begin(page)
        large = {"name": "large.png", "mimeType": "image/png", "buffer": png(2400, 1200)}
        page.set_input_files("#attach-files", [large])
        for event, target in (("paste", "#composer-text"), ("drop", "#thread")):
            page.evaluate(
                """async ([event, target, data]) => {
                    const transfer = new DataTransfer();
                    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
                    transfer.items.add(new File([bytes], `${event}.png`, { type: "image/png" }));
                    const init = { bubbles: true, cancelable: true, dataTransfer: transfer, clipboardData: transfer };
                    const made = event === "paste" ? new ClipboardEvent(event, init) : new DragEvent(event, init);
                    document.querySelector(target).dispatchEvent(made);
                }""",
                [event, target, base64.b64encode(png(40, 30)).decode()],
            )
        waits(page, "document.querySelectorAll('#attached li').length === 3")
        page.set_input_files("#attach-files", [{"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"}])
        page.get_by_text("no.png cannot be read as a picture").wait_for()
        page.get_by_label("Leave out drop.png").click()
        say(page, "Look")
        answered(page, 2)
        saved_conversation(page, 3)
        page.reload()
        page.wait_for_selector(".message.mine .picture img")
        assert page.locator(".message.mine .picture img").count() == 2
    text, first, second = played.asked[0]["messages"][-1]["content"]
    assert text == {"type": "text", "text": "Look"}
    sizes = []
    for part in (first, second):
        data = part["image_url"]["url"].removeprefix("data:image/png;base64,")
        sizes.append(Image.open(io.BytesIO(base64.b64decode(data))).size)
    assert sizes == [(1024, 512), (40, 30)]


@browser_test
def test_the_options_go_with_each_request_and_are_kept(browser: Any) -> None:
    played = Played()
    with visit(browser, played) as page:
        begin(page)
        page.click("#options-open")
        page.get_by_label("Always").check()
        page.get_by_label("Seed of the next answer").fill("7")
        page.get_by_label("Who you are").fill("a keeper of lighthouses")
        say(page, "Hello")
        answered(page, 2)
        say(page, "And again")
        answered(page, 3)
        page.reload()
        page.wait_for_selector("body[data-ready]")
        page.click("#options-open")
        assert page.get_by_label("Seed of the next answer").input_value() == "9"
        assert page.get_by_label("Who you are").input_value() == "a keeper of lighthouses"
        page.get_by_role("button", name="Seed 7. Use it for the next answer").click()
        assert page.get_by_label("Seed of the next answer").input_value() == "7"
    assert [(asked["seed"], asked["pictures"], asked["user_persona"]) for asked in played.asked] == [
        (7, "always", "a keeper of lighthouses"),
        (8, "always", "a keeper of lighthouses"),
    ]


@browser_test
def test_a_drawing_without_a_reply_is_no_part_of_what_is_told_to_the_model(browser: Any) -> None:
    played = Played()
    with visit(browser, played) as page:
        begin(page)
        page.fill("#composer-text", "on a beach, laughing")
        page.get_by_label("Draw what is written, without a reply").click()
        page.locator(".drawn-from").get_by_text("Drawn: on a beach, laughing").wait_for()
        page.get_by_text("Likeness 0.88").wait_for()
        answered(page, 2)
        assert page.locator(".message .picture img").count() == 1
        say(page, "Hello")
        answered(page, 3)
    drawn, asked = played.asked
    assert (drawn["model"], drawn["prompt"], drawn["response_format"]) == ("wren", "on a beach, laughing", "b64_json")
    assert [message["content"] for message in asked["messages"]][1:] == ["Hello"]


@browser_test
def test_whoever_is_named_answers_and_hears_the_others(browser: Any) -> None:
    played = Played()
    with visit(browser, played) as page:
        begin(page)
        say(page, "Hello")
        answered(page, 2)
        page.get_by_role("button", name="Talk to others").click()
        page.locator("#switcher-menu").get_by_role("button", name="Bo", exact=True).last.click()
        say(page, "And you, Bo?")
        answered(page, 3)
        assert page.locator(".message.theirs .speaker bdi").last.inner_text() == "Bo"
        page.locator("#who-answers-select").select_option("wren")
        say(page, "Bo again, but Wren speaks")
        answered(page, 4)
    second, third = played.asked[1:]
    assert second["model"] == "bo" and third["model"] == "wren"
    (heard,) = second["messages"]
    assert heard["content"].startswith("Wren: Wren waves a spanner.") and heard["content"].endswith("And you, Bo?")
    assert third["messages"][-1]["content"].startswith("And you, Bo?\nBo: By my left spanner!")


# files


@browser_test
def test_what_is_exported_is_read_by_the_terminal_and_imported_again(browser: Any, tmp_path: Path) -> None:
    with visit(browser, Played()) as page:
        begin(page)
        say(page, "Please draw yourself")
        answered(page, 2)
        page.get_by_label("Try again with another seed").click()
        page.get_by_text("2 of 2").wait_for()
        answered(page, 2)
        before = messages(page)
        kept = saved_conversation(page, 3)
        page.locator("#conversations li").get_by_label("More for Please draw yourself").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Export").click()
        assert download.value.suggested_filename == "wren-please-draw-yourself.jsonl"
        file = tmp_path / "talk.jsonl"
        download.value.save_as(file)
        loaded = load_conversation(file, ["Wren"])
        greeting, said, reply = loaded.lines
        assert reply.picture is not None and reply.picture.size == (256, 256) and loaded.left_out == 0
        assert (greeting.speaker, said.text) == ("Wren", "Please draw yourself")
        assert reply.text.endswith("\n[picture: Wren, a girl, smiling, in her workshop]")
        rows = [json.loads(row) for row in file.read_text("utf-8").splitlines()]
        assert rows[0]["character_name"] == "Wren" and rows[3]["extra"]["image"].startswith("data:image/png;base64,")
        assert len(rows[3]["swipes"]) == 2 and rows[3]["swipes"][rows[3]["swipe_id"]] == rows[3]["mes"]
        page.set_input_files("#import-files", file)
        waits(page, "document.querySelectorAll('#conversations li').length === 2")
        page.wait_for_selector(".message.mine")
        assert messages(page) == before
        assert picture_width(page.locator(".message .picture img")) == 256
        again = next(one for one in stored(page) if one["id"] != kept["id"])
        assert [without_ids(one) for one in again["messages"]] == [without_ids(one) for one in kept["messages"]]


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    """A message as it is kept, with the number of its pictures in place of their ids."""
    if message["role"] == "user":
        return message | {"id": "", "pictures": len(message["pictures"])}
    return message | {"id": "", "versions": [one | {"pictures": len(one["pictures"])} for one in message["versions"]]}


@browser_test
def test_what_the_terminal_saved_is_imported_with_its_pictures(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    with Image.open(sorted(PICTURES.glob("*.png"))[0]) as image:
        picture = image.convert("RGB").resize((64, 64))
    lines = [
        Line(None, "Look at this", (picture,)),
        Line("Wren", "Here I am.\n[picture: Wren, on a beach]", picture=picture),
        Line(None, "Lovely"),
    ]
    save_conversation(file, lines, ["Wren"])
    played = Played()
    with visit(browser, played) as page:
        page.set_input_files("#import-files", file)
        page.get_by_text("Imported without 2 pictures").wait_for()
        page.set_input_files("#import-files", [file, *sorted((tmp_path / "talk").iterdir())])
        page.get_by_text("Imported.").wait_for()
        page.locator(".words").get_by_text("Lovely").wait_for()
        assert messages(page) == ["Look at this", "Here I am.", "Lovely"]
        assert page.locator(".message .picture img").count() == 2
        page.get_by_role("button", name="Get an answer").click()
        answered(page, 2)
        page.set_input_files("#import-files", [{"name": "bad.jsonl", "mimeType": "", "buffer": b"{"}])
        page.get_by_text("bad.jsonl: This file is no conversation").wait_for()
    assert played.asked[0]["messages"][1] == {"role": "assistant", "content": "Here I am.", "plan": "Wren, on a beach"}
    assert played.asked[0]["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")


words = st.text(max_size=60).map(str.strip).filter(lambda text: "[" not in text)
plans = st.none() | st.from_regex(r"[a-z, ]{0,20}[a-z]", fullmatch=True).map(lambda text: " ".join(text.split()))
talks = st.lists(st.tuples(st.sampled_from([None, "Wren", "Bo"]), words, plans), min_size=1, max_size=6)


@browser_test
def test_the_files_of_the_terminal_and_of_the_page_are_the_same(
    browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with visit(browser, Played()) as page:
        people = [{"id": name.lower(), "name": name} for name in ("Wren", "Bo")]

        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(talks)
        def there_and_back(said: list) -> None:
            file = tmp_path_factory.mktemp("talk") / "talk.jsonl"
            with_plan = "{}\n[picture: {}]".format
            lines = [Line(who, with_plan(text, plan) if who and plan else text) for who, text, plan in said]
            save_conversation(file, lines, ["Wren", "Bo"])
            back = page.evaluate(
                """async ([text, people]) => {
                    const { exported, imported } = await import("/page/logs.js");
                    return exported(imported(text, people).conversation, async () => null);
                }""",
                [file.read_text("utf-8"), people],
            )
            file.write_text(back, "utf-8", newline="")
            again = load_conversation(file, ["Wren", "Bo"]).lines
            assert [(line.speaker, line.text.strip()) for line in again] == [
                (line.speaker, line.text.strip()) for line in lines
            ]

        there_and_back()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=5) | st.just("data:image/png;base64,AAAA"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "images", "seed"]), inner),
    max_leaves=6,
)
extras = st.fixed_dictionaries({}, optional={"image": values, "charforge": values})
rows_of_others = st.fixed_dictionaries(
    {"mes": st.text(max_size=5) | values},
    optional={
        "name": values, "is_user": values, "is_system": values, "send_date": values, "extra": values | extras,
        "swipes": values, "swipe_id": values, "swipe_info": values, "chat_metadata": values, "character_name": values,
    },
)  # fmt: skip


@browser_test
def test_any_file_is_imported_or_refused_in_a_sentence(browser: Any) -> None:
    with visit(browser, Played()) as page:

        @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.lists(rows_of_others | values, max_size=4))
        def imported(rows: list[Any]) -> None:
            outcome = page.evaluate(
                """async ([text, people]) => {
                    const { exported, imported } = await import("/page/logs.js");
                    try {
                        const { conversation } = imported(text, people);
                        structuredClone(conversation);
                        await exported(conversation, async () => null);
                        return conversation.messages.length;
                    } catch (error) {
                        return error.message;
                    }
                }""",
                ["\n".join(map(json.dumps, rows)), [{"id": "wren", "name": "Wren"}]],
            )
            said = [row for row in rows if isinstance(row, dict) and isinstance(row.get("mes"), str)]
            assert outcome == (
                len(said) or "This file holds no messages. Choose a conversation that was saved as .jsonl."
            )

        imported()


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
