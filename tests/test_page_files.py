"""The page in a headless Chromium: what the user sends, and conversations as files."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
    waits,
)
from page_server import PICTURES, Played
from PIL import Image

from charforge.chat.group import Line
from charforge.chat.logs import load_conversation, save_conversation

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


MOST = 2**53 - 1
"""The largest whole number up to which JavaScript holds each one exactly."""


@browser_test
def test_a_seed_is_sent_as_it_was_typed_or_refused_in_a_sentence(browser: Any) -> None:
    played = Played()
    taken = [2**31, MOST, -MOST, -1]
    with visit(browser, played) as page:
        begin(page)
        page.click("#options-open")
        field = page.get_by_label("Seed of the next answer")
        for number, seed in enumerate(taken):
            field.fill(str(seed))
            say(page, "Hello")
            answered(page, number + 2)
        page.get_by_role("button", name="Seed -1. Use it for the next answer").click()
        assert field.input_value() == "-1"
        for wrong in (str(MOST + 1), str(-MOST - 1), "1" * 400, "1.5", "1e3", "seven"):
            field.fill(wrong)
            field.blur()
            page.get_by_text(f"A seed is a whole number from {-MOST} to {MOST}").wait_for()
            page.locator(".toast").get_by_label("Dismiss").click()
            assert field.input_value() == ""
    assert [asked["seed"] for asked in played.asked] == taken


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


LONG = 300_000


@browser_test
def test_text_that_goes_on_for_long_is_read_once_and_not_again_from_each_letter(browser: Any) -> None:
    own = {"extra": {"charforge": {"text": f"x{' ' * LONG}x"}}}
    rows = [{"name": "Wren", "mes": "x", **own}]
    with visit(browser, Played()) as page:
        file = {"name": "long.jsonl", "mimeType": "", "buffer": "\n".join(map(json.dumps, rows)).encode()}
        # what looks anew from each letter takes minutes, far longer than the page is waited for
        page.set_input_files("#import-files", [file])
        page.get_by_text("Imported.").wait_for()
        page.locator(".message.theirs").wait_for()


@browser_test
def test_the_plan_of_a_picture_is_found_in_words_of_any_kind(browser: Any) -> None:
    texts = ["A\n [Picture:  by  the sea]", "İİ [PICTURE: by the sea", "[picture:]", "no plan [picture", "a  "]
    with visit(browser, Played()) as page:
        found = page.evaluate(
            """async (texts) => {
                const { splitPlan } = await import("/page/logs.js");
                return texts.map(splitPlan).map(({ words, plan }) => [words, plan]);
            }""",
            texts,
        )
    assert found == [["A", "by the sea"], ["İİ", "by the sea"], ["", None], ["no plan [picture", None], ["a", None]]


@browser_test
def test_a_seed_in_a_file_that_is_no_whole_number_is_passed_over(browser: Any) -> None:
    seeds = [-1, MOST, MOST + 2, 1e308, 0.5, "7", None]
    rows = [{"name": "Wren", "mes": "Hello", "extra": {"charforge": {"seed": seed}}} for seed in seeds]
    with visit(browser, Played()) as page:
        file = {"name": "seeds.jsonl", "mimeType": "", "buffer": "\n".join(map(json.dumps, rows)).encode()}
        page.set_input_files("#import-files", [file])
        page.get_by_text("Imported.").wait_for()
        page.locator(".message.theirs").nth(len(seeds) - 1).wait_for()
        assert page.locator(".seed").all_inner_texts() == ["Seed -1", f"Seed {MOST}"]


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
