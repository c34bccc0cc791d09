"""The engine that has another server compute: one server, several behind a balancer, one that does not draw, none."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai import OpenAI
from served import asked, balanced, client_of, running, served, tiny_engine, tiny_seats
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from charforge.chat.lore import Lorebook
from charforge.serve.remote import RemoteEngine, RemoteVoice, Upstream

QUESTION = "Is it in a forest ?"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(tiny_engine()) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> OpenAI:
    return client_of(address)


def engine_before(url: str, model: str = "tiny") -> RemoteEngine:
    """Wren here, and the base that speaks for it there."""
    seat = tiny_seats()[0]
    return RemoteEngine([RemoteVoice(seat.voice, seat.session.settings, Lorebook(), model)], Upstream(f"{url}/v1"), 8)


def test_a_conversation_with_pictures_is_the_same_whichever_replica_answers(address: str, client: OpenAI) -> None:
    with served(tiny_engine()) as other, balanced([address, other]) as both, served(engine_before(both)) as front:
        talks, texts = (client_of(front), client), list[str]()
        for number, question in enumerate((QUESTION, "Where is it ?", "Yes")):
            texts.append(question)
            there, here = (
                one.chat.completions.create(
                    model="wren", messages=asked(*texts), seed=number, extra_body={"pictures": "always"}
                )
                for one in talks
            )
            # the picture and its plan come from one replica, and the next words from the other
            assert there.choices[0].message == here.choices[0].message and there.usage == here.usage
            texts.append(here.choices[0].message.content or "")


def test_a_server_of_a_language_model_alone_gives_words_without_pictures(caplog: pytest.LogCaptureFixture) -> None:
    asked_for: list[str] = []

    async def speak(request: Request) -> StreamingResponse:
        asked_for.append(request.url.path)
        said = {"choices": [{"index": 0, "delta": {"content": "Here. [picture: Wren, in a forest]"}}]}
        return StreamingResponse(
            iter([f"data: {json.dumps(said)}\n\n", "data: [DONE]\n\n"]), media_type="text/event-stream"
        )

    routes = [Route("/v1/chat/completions", speak, methods=["POST"])]
    with (
        running(Starlette(routes=[*routes, Route("/health", speak)])) as address,
        served(engine_before(address)) as front,
    ):
        with caplog.at_level(logging.WARNING, "charforge.serve"):
            for _ in range(2):
                said = client_of(front).chat.completions.create(model="wren", messages=asked("Hello"), seed=1)
                assert said.choices[0].message.content == "Here." and not said.choices[0].message.model_extra
        assert [one.getMessage().partition(":")[0] for one in caplog.records] == ["http"], "said once"
        assert "draws no pictures" in caplog.text
        # a picture that is asked for by itself is refused
        with pytest.raises(openai.BadRequestError, match="does not offer this"):
            client_of(front).images.generate(model="wren", prompt="in a forest")


def test_in_front_of_another_server_a_character_says_and_draws_the_same(client: OpenAI, address: str) -> None:
    # the other server's base as it is: what makes it Wren is told and asked from here
    with served(engine_before(address)) as front:
        talk = client_of(front)
        assert [model.id for model in talk.models.list()] == ["wren"]
        body = {"pictures": "always"}
        texts = asked(QUESTION, "Yes", "Where is it ?")
        here, there = (
            one.chat.completions.create(model="wren", messages=texts, seed=2, n=2, extra_body=body)
            for one in (client, talk)
        )
        assert [one.message for one in here.choices] == [one.message for one in there.choices]
        assert here.usage == there.usage
        stream = talk.chat.completions.create(model="wren", messages=texts, seed=2, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert text == here.choices[0].message.content
        drawn = [
            one.images.generate(model="wren", prompt="in a forest", extra_body={"seed": 3}).data[0].b64_json
            for one in (client, talk)
        ]
        assert drawn[0] == drawn[1]
    refusal = r"the other server does not offer this \(404\): model: there is no 'nobody'"
    with (
        served(engine_before(address, "nobody")) as front,
        pytest.raises(openai.BadRequestError, match=refusal),
    ):
        client_of(front).chat.completions.create(model="wren", messages=texts)


def test_another_server_that_is_not_there_is_said() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with served(engine_before(f"http://127.0.0.1:{nobody.getsockname()[1]}")) as front:
            answer = httpx.post(f"{front}/v1/chat/completions", json={"messages": asked("Hi")})
    assert answer.status_code == 503 and "look whether it runs" in answer.json()["error"]["message"]
