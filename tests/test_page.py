"""The page in a headless Chromium, in front of a server that plays replies back: conversations, and what goes wrong."""

from __future__ import annotations

import re
from typing import Any

import httpx
from in_browser import (
    answered,
    begin,
    browser_test,
    messages,
    picture_width,
    saved_conversation,
    say,
    stored,
    visit,
    window_at,
)
from page_server import HOSTILE, PAGE, WREN, Played
from served import served, tiny_engine, tiny_seats

from charforge.chat.conversation import Conversation, reply_of
from charforge.serve.guard import Access

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
def test_a_key_that_cannot_be_sent_is_told_and_asked_for_again(browser: Any) -> None:
    played = Played(key="sesame")
    with visit(browser, played, allowed="401") as page:
        for wrong in ("schlüssel€", "schlüssel", "two\u200bwords"):
            page.get_by_role("textbox", name="Key").fill(wrong)
            page.keyboard.press("Enter")
            page.get_by_text("A key has letters, digits and signs of ASCII only").wait_for()
        assert page.evaluate("sessionStorage.length") == 0
        # one that an earlier page kept is forgotten
        page.evaluate("sessionStorage.setItem('charforge-key', 'schlüssel€')")
        page.reload()
        page.get_by_role("textbox", name="Key").fill("sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-ready]")
        assert page.locator(".person").count() == 3 and page.locator("#notice").is_hidden()


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
