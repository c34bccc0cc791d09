"""Writers beside the rules: what they are asked, what becomes of it, and how a URL misbehaves."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from folders import make_folder

from charforge.character import Character, read_character
from charforge.errors import InputError, MachineError
from charforge.expand import expand
from charforge.expand.asking import Request, ask, examples_of, topics
from charforge.expand.endpoint import KEY_VARIABLE, Endpoint, EndpointSettings
from charforge.expand.kept import Kept
from charforge.expand.page import write_page

SETTINGS = EndpointSettings("http://writer.test/v1", "tiny", requests_per_minute=6000, price_in=1.0, price_out=2.0)
ASK = Request("knowledge", (("user", "Pip lives in a tea cart."),), max_tokens=32)


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Character:
    return read_character(make_folder(tmp_path_factory.mktemp("characters") / "pip"))


def test_prompts_show_the_characters_own_lines_and_what_is_asked(pip: Character) -> None:
    shown = examples_of(pip.dialogues, random.Random(0))
    request = ask(
        "dialogues", 100, name="Pip", about="You are Pip.", language="English", examples=shown, topics=["tea"]
    )
    (role, system), (_, asked) = request.messages
    assert role == "system" and "JSON only" in system
    assert f"Visitor: {shown[0].visitor}\nPip: {shown[0].reply}" in asked
    assert "1. tea" in asked and "{{" not in asked and "\n\n\n" not in asked


def test_topics_differ_and_none_comes_twice() -> None:
    drawn = topics(400, random.Random(0))
    assert len(set(drawn)) == 400 and topics(9, random.Random(0)) == drawn[:9]
    assert len({topic.split(" (")[0] for topic in drawn[:60]}) == 60


def test_what_was_written_is_kept_and_a_torn_line_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "written.jsonl"
    kept = Kept(file, "me")
    kept.add(ASK, "Where do you live?")
    with file.open("a") as torn:
        torn.write('{"key": "abc", "te')
    again = Kept(file, "me")
    assert again.missing([ASK, ASK]) == [] and again.texts([ASK]) == ["Where do you live?"]
    again.add(dataclasses.replace(ASK, max_tokens=9), "Where?")
    assert len(Kept(file, "me").missing([ASK, dataclasses.replace(ASK, max_tokens=9)])) == 0
    assert Kept(file, "somebody else").missing([ASK]) == [ASK]


def endpoint(tmp_path: Path, answer: Callable[[httpx.Request], httpx.Response], pauses: list[float]) -> Endpoint:
    kept = Kept(tmp_path / "written.jsonl", "url")
    return Endpoint(SETTINGS, kept, {}, transport=httpx.MockTransport(answer), pause=pauses.append)


def said(text: object) -> httpx.Response:
    usage = {"prompt_tokens": 20, "completion_tokens": 5}
    return httpx.Response(200, json={"choices": [{"message": {"content": text}}], "usage": usage})


def test_an_endpoint_is_asked_once_and_told_apart_by_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret")
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return said("Where do you live?")

    writer = endpoint(tmp_path, answer, [])
    assert writer([ASK, ASK]) == ["Where do you live?"] * 2
    assert writer([ASK]) == ["Where do you live?"] and len(seen) == 1
    assert seen[0].headers["Authorization"] == "Bearer sk-secret"
    assert json.loads(seen[0].content)["messages"] == [{"role": "user", "content": "Pip lives in a tea cart."}]
    assert writer.spent.line(SETTINGS) == "1 requests, 20 tokens in, 5 out, cost 0.0000"
    assert "sk-secret" not in (tmp_path / "written.jsonl").read_text() and "sk-secret" not in repr(writer)


def test_a_busy_endpoint_is_asked_again_after_the_time_it_names(tmp_path: Path) -> None:
    answers = [httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(503), said("Where?")]
    pauses: list[float] = []
    assert endpoint(tmp_path, lambda request: answers.pop(0), pauses)([ASK]) == ["Where?"]
    waits = [pause for pause in pauses if pause > 1]
    assert waits[0] == 7 and 2 <= waits[1] <= 4


def test_an_endpoint_that_stays_silent_ends_with_a_remedy_and_keeps_what_it_has(tmp_path: Path) -> None:
    second = dataclasses.replace(ASK, max_tokens=9)

    def answer(request: httpx.Request) -> httpx.Response:
        if json.loads(request.content)["max_tokens"] == 9:
            raise httpx.ConnectError("no route")
        return said("Where?")

    writer = endpoint(tmp_path, answer, [])
    with pytest.raises(MachineError, match=r"does not answer \(ConnectError\) after 5 tries: what was written so far"):
        writer([ASK, second])
    assert writer.kept.missing([ASK, second]) == [second]


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (httpx.Response(401), KEY_VARIABLE),
        (httpx.Response(404), "check --url and --model"),
        (httpx.Response(200, text="<html>hello"), "not answer as an OpenAI-compatible endpoint"),
        (httpx.Response(200, json={"choices": []}), "not answer as an OpenAI-compatible endpoint"),
        (httpx.Response(200, json=[1]), "not answer as an OpenAI-compatible endpoint"),
        (said(["part"]), "not answer as an OpenAI-compatible endpoint"),
    ],
)
def test_an_endpoint_that_refuses_is_one_line(tmp_path: Path, response: httpx.Response, words: str) -> None:
    with pytest.raises(InputError, match=words):
        endpoint(tmp_path, lambda request: response, [])([ASK])


def test_a_picture_travels_as_a_data_uri(tmp_path: Path, pip: Character) -> None:
    bodies: list[dict[str, object]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return said("a clay robot")

    writer = endpoint(tmp_path, answer, [])
    writer.pictures["01"] = pip.pictures[0].path
    writer([Request("looks", (("user", "What does the picture show?"),), image="01")])
    image, text = bodies[0]["messages"][-1]["content"]  # type: ignore[index]
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR") and text["text"].startswith("What")


def test_the_page_shows_every_pair_and_runs_no_text_as_markup(pip: Character, tmp_path: Path) -> None:
    expansion = expand(dataclasses.replace(pip, facts=(*pip.facts, "Pip likes <script>alert(1)</script> a lot.")))
    write_page(tmp_path / "pairs.html", pip, expansion)
    page = (tmp_path / "pairs.html").read_text()
    assert page.count("<article") == len(expansion.pairs) + len(expansion.dropped)
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert "http://" not in page and "https://" not in page and "data:image/jpeg;base64," in page
