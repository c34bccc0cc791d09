"""The server as other people's programs meet it: OpenAI's client, AUTOMATIC1111's routes, browsers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from openai import OpenAI
from served import asked, client_of, picture_of, sent_picture, served, tiny_engine, tiny_seats

from charforge.chat.conversation import Conversation, reply_of
from charforge.serve.guard import Access, is_here
from charforge.serve.local import LocalEngine
from charforge.serve.scheduler import Limits

QUESTION = "Is it in a forest ?"


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return tiny_engine()


@pytest.fixture(scope="module")
def address(engine: LocalEngine) -> Iterator[str]:
    with served(engine) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> OpenAI:
    return client_of(address)


# OpenAI's client


def test_characters_and_their_base_are_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["wren", "tiny"]
    assert client.models.retrieve("wren").charforge["greetings"] == ["Hello"]  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError, match="there is no 'nobody' here; there are wren, tiny"):
        client.models.retrieve("nobody")


def test_a_conversation_is_the_same_at_the_terminal_and_through_the_server(client: OpenAI) -> None:
    talk = Conversation(tiny_seats()[0].session, "never")
    texts: list[str] = []
    for number, question in enumerate((QUESTION, "Where is it ?", "Yes")):
        texts.append(question)
        said = client.chat.completions.create(
            model="wren", messages=asked(*texts), seed=number, extra_body={"pictures": "never"}
        )
        expected = reply_of(talk.say(question, seed=number)).text
        assert said.choices[0].message.content == expected
        texts.append(expected)


def test_a_picture_comes_with_the_reply(client: OpenAI, address: str) -> None:
    body = {"pictures": "always", "previews": True}
    said = client.chat.completions.create(model="wren", messages=asked(QUESTION), seed=1, extra_body=body)
    image = picture_of(said.choices[0].message.images[0]["image_url"]["url"])  # type: ignore[attr-defined]
    assert image.size == (16, 16) and image.format == "PNG"
    chunks = list(
        client.chat.completions.create(model="wren", messages=asked(QUESTION), seed=1, stream=True, extra_body=body)
    )
    drawn = [chunk.choices[0].delta.images for chunk in chunks if getattr(chunk.choices[0].delta, "images", None)]
    assert drawn == [said.choices[0].message.images]  # type: ignore[attr-defined]
    steps = [chunk.charforge["drawing"] for chunk in chunks if "drawing" in getattr(chunk, "charforge", {})]  # type: ignore[attr-defined]
    assert steps[0]["plan"] and [step["step"] for step in steps[1:]] == list(range(1, steps[-1]["steps"] + 1))
    assert sum(step["preview"] is not None for step in steps) >= 2


def test_a_picture_that_is_sent_is_looked_at(client: OpenAI) -> None:
    def seen(color: str) -> str | None:
        parts = [
            {"type": "text", "text": QUESTION},
            {"type": "image_url", "image_url": {"url": sent_picture(color), "detail": "auto"}},
        ]
        said = client.chat.completions.create(
            model="wren", messages=[{"role": "user", "content": parts}], seed=1, temperature=0, max_tokens=30
        )
        return said.choices[0].message.content

    assert seen("red") == seen("red") != seen("blue")


def test_how_probable_the_words_were_is_told_where_it_is_asked(client: OpenAI) -> None:
    said = client.chat.completions.create(
        model="wren", messages=asked(QUESTION), seed=5, logprobs=True, top_logprobs=3, temperature=0, max_tokens=6
    )
    places = said.choices[0].logprobs.content
    assert len(places) == said.usage.completion_tokens > 0
    for place in places:
        assert place.logprob <= 0 and [top.logprob for top in place.top_logprobs] == sorted(
            (top.logprob for top in place.top_logprobs), reverse=True
        )
    # a penalty for what was said before may make another word the choice; at first there is none
    assert places[0].token == places[0].top_logprobs[0].token
    plain = client.chat.completions.create(model="wren", messages=asked(QUESTION), seed=5, temperature=0, max_tokens=6)
    assert plain.choices[0].message.content == said.choices[0].message.content and plain.choices[0].logprobs is None


def test_completions_and_the_bare_base_answer(client: OpenAI) -> None:
    one = client.completions.create(model="tiny", prompt=QUESTION, seed=1, max_tokens=5)
    assert one.choices[0].text and one.object == "text_completion"
    stream = client.completions.create(model="tiny", prompt=QUESTION, seed=1, max_tokens=5, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == one.choices[0].text


def showing(url: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, 400, "role"),
        ({"messages": [{"role": "user", "content": "  "}]}, 400, "nobody has said anything"),
        ({"messages": asked("x"), "temperature": "hot"}, 400, "temperature"),
        ({"messages": asked("x"), "seed": 2**70}, 400, "seed"),
        ({"messages": asked("x"), "n": 100}, 400, "n"),
        ({"messages": asked("x"), "model": "nobody"}, 404, "there is no 'nobody'"),
        ({"messages": showing("file:///etc/passwd")}, 400, "nothing is fetched"),
        ({"messages": showing("https://example.org/a.png")}, 400, "nothing is fetched"),
        ({"messages": showing("data:image/png;base64,AAAA")}, 400, "no picture that can be read"),
        ({"messages": asked("x"), "stop": ["a"] * 17}, 400, "stop"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_the_apis_own_shape(address: str, body, status: int, said: str) -> None:
    answer = httpx.post(f"{address}/v1/chat/completions", json=body)
    assert answer.status_code == status and said in answer.json()["error"]["message"]
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_what_is_not_offered_and_what_is_unknown(client: OpenAI, address: str) -> None:
    with pytest.raises(openai.BadRequestError, match="pictures are not edited here"):
        client.images.edit(image=b"x", prompt="y", model="wren")
    for answer in (httpx.get(f"{address}/v1/nothing"), httpx.put(f"{address}/v1/models")):
        assert answer.status_code in (404, 405) and answer.json()["error"]["message"]
    # fields that are not known here are no error, and what is null counts as left out
    body = {"messages": asked(QUESTION), "seed": 1, "logit_bias": {}, "tools": [], "top_k": 40, "max_tokens": None}
    assert httpx.post(f"{address}/v1/chat/completions", json=body).status_code == 200


# many at a time


def test_replies_side_by_side_are_those_of_each_alone(client: OpenAI, engine: LocalEngine) -> None:
    def one(seed: int) -> str | None:
        # the likeliest words: rounding differs by rows, and must not decide
        said = client.chat.completions.create(
            model="wren",
            messages=asked(QUESTION, "Yes", f"{seed} In A forest"),
            seed=seed,
            temperature=0,
            max_tokens=40,
        )
        return said.choices[0].message.content

    alone = [one(seed) for seed in range(6)]
    before = engine.figures()
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(one, range(6))) == alone
    after = engine.figures()
    assert after.tokens - before.tokens > after.passes - before.passes


def test_clients_that_go_leave_nothing_behind(address: str, engine: LocalEngine) -> None:
    rng = random.Random(0)

    async def leave(client: httpx.AsyncClient, number: int) -> None:
        body = {
            "messages": asked(QUESTION), "seed": number, "stream": number % 3 > 0, "max_tokens": (1500, 5)[number % 2],
            "pictures": ("never", "always")[number % 2], "temperature": 100,
        }  # fmt: skip
        try:
            async with asyncio.timeout(rng.random() * 0.3):
                async with client.stream("POST", f"{address}/v1/chat/completions", json=body) as answer:
                    async for _ in answer.aiter_bytes():
                        pass
        except (TimeoutError, httpx.HTTPError):
            pass

    async def crowd() -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            await asyncio.gather(*(leave(client, number) for number in range(40)))

    before = engine.figures().tokens
    asyncio.run(crowd())
    deadline = time.monotonic() + 30
    while (engine.figures().active or engine.figures().waiting) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (engine.figures().active, engine.figures().waiting) == (0, 0)
    # of 20 replies of 1500 tokens that nobody waited for few were said to the end
    assert engine.figures().tokens - before < 10_000
    assert httpx.post(f"{address}/v1/chat/completions", json={"messages": asked(QUESTION)}).status_code == 200


def test_too_many_are_told_to_come_back() -> None:
    engine = tiny_engine(Limits(rows=1, waiting=1), max_tokens=200, repetition_penalty=1.0, temperature=5.0)
    with served(engine) as address:

        def one(seed: int) -> httpx.Response:
            return httpx.post(
                f"{address}/v1/chat/completions", json={"messages": asked(QUESTION), "seed": seed}, timeout=60
            )

        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(one, range(12)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and {answer.status_code for answer in answers} <= {200, 429}
    assert int(refused[0].headers["retry-after"]) > 0 and refused[0].json()["error"]["code"] == "queue_full"


def test_what_takes_too_long_ends() -> None:
    with served(tiny_engine(Limits(seconds=0))) as address:
        answer = httpx.post(f"{address}/v1/chat/completions", json={"messages": asked(QUESTION)})
        assert answer.status_code == 504 and "longer than 0 seconds" in answer.json()["error"]["message"]


# AUTOMATIC1111's routes


def test_the_routes_that_front_ends_ask_of_a_web_ui(address: str) -> None:
    def get(path: str):
        return httpx.get(f"{address}/sdapi/v1/{path}").json()

    assert [model["title"] for model in get("sd-models")] == ["wren", "tiny"]
    assert get("samplers")[0]["name"] == "Euler" and get("schedulers")[0]["name"] == "automatic"
    assert get("upscalers") and get("latent-upscale-modes") and get("sd-vae") == []
    assert get("options")["sd_model_checkpoint"] == "wren" and get("progress")["progress"] == 0
    chosen = httpx.post(f"{address}/sdapi/v1/options", json={"sd_model_checkpoint": "tiny", "CLIP": 1})
    assert chosen.status_code == 200 and get("options")["sd_model_checkpoint"] == "tiny"
    body = {"prompt": "<lora:wren:0.8> in a forest", "seed": 4, "width": 512, "steps": 50, "batch_size": 2}
    drawn = httpx.post(f"{address}/sdapi/v1/txt2img", json=body, timeout=60).json()
    assert len(drawn["images"]) == 2 and picture_of(drawn["images"][0]).size == (16, 16)
    assert '"sd_model_name": "wren"' in drawn["info"] and '"prompt": "Wren, a character, in a forest"' in drawn["info"]
    assert httpx.post(f"{address}/sdapi/v1/options", json={"sd_model_checkpoint": "wren"}).status_code == 200
    assert httpx.post(f"{address}/sdapi/v1/txt2img", json={"prompt": " "}).status_code == 400


def test_a_picture_that_is_interrupted_ends(engine: LocalEngine) -> None:
    from charforge.serve.engine import PictureOrder
    from charforge.serve.studio import Studio

    async def scene() -> None:
        studio = Studio("wren")
        drawing = asyncio.ensure_future(studio.draw(engine.draw(PictureOrder("wren", "in a forest", 1, 8))))
        while studio.progress is None:
            await asyncio.sleep(0.001)
        studio.interrupt()
        assert await drawing is None and studio.progress is None

    asyncio.run(scene())


# who may ask


def test_a_key_is_asked_for_where_one_is_set() -> None:
    with served(tiny_engine(), Access(key="sesame", only_here=False)) as address:
        assert httpx.get(f"{address}/health").status_code == 200
        assert httpx.get(f"{address}/v1/models").status_code == httpx.get(f"{address}/metrics").status_code == 401
        with pytest.raises(openai.AuthenticationError, match="Authorization: Bearer"):
            client_of(address, "wrong").models.list()
        assert len(list(client_of(address, "sesame").models.list())) == 2


def test_pages_from_elsewhere_and_foreign_names_are_refused(address: str) -> None:
    models = f"{address}/v1/models"
    assert httpx.get(models, headers={"Origin": "http://evil.example"}).status_code == 403
    assert httpx.get(models, headers={"Host": "evil.example"}).status_code == 403
    assert httpx.get(models, headers={"Origin": address}).status_code == 200
    assert "access-control-allow-origin" not in httpx.get(models).headers
    with served(tiny_engine(), Access(origins=("http://front.example",))) as other:
        asked_before = {"Origin": "http://front.example", "Access-Control-Request-Method": "POST"}
        answer = httpx.options(f"{other}/v1/chat/completions", headers=asked_before)
        assert answer.headers["access-control-allow-origin"] == "http://front.example"
        assert httpx.get(f"{other}/v1/models", headers={"Origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost:80", True), ("127.0.0.1", True), ("[::1]:8000", True), ("a.localhost", True), ("10.0.0.1", False),
     ("localhost.evil.example", False), ("127.0.0.1.evil.example", False), ("", False), ("evil@127.0.0.1", True)],
)  # fmt: skip
def test_which_names_are_of_this_machine(host: str, here: bool) -> None:
    assert is_here(host) is here


def test_what_is_too_large_is_refused() -> None:
    with served(tiny_engine(), Access(most_bytes=1000)) as address:
        long = {"messages": asked("x" * 2000)}
        assert httpx.post(f"{address}/v1/chat/completions", json=long).status_code == 413

        def endless() -> Iterator[bytes]:
            for _ in range(50):
                yield b"x" * 100

        answer = httpx.post(f"{address}/v1/chat/completions", content=endless())
        assert answer.status_code >= 400
        assert httpx.get(f"{address}/health").status_code == 200


def test_figures_say_what_was_done_and_nothing_of_what_was_said(address: str) -> None:
    httpx.post(f"{address}/v1/chat/completions", json={"messages": asked("A secret forest")})
    text = httpx.get(f"{address}/metrics").text
    assert 'charforge_requests_total{route="/v1/chat/completions",status="200"}' in text
    assert "charforge_tokens_total" in text and "secret" not in text


def test_the_page_is_asked_for_anew_each_time(address: str) -> None:
    for path in ("/", "/page/app.js"):
        answer = httpx.get(f"{address}{path}")
        assert answer.status_code == 200 and answer.headers["cache-control"] == "no-cache"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert (
        httpx.get(f"{address}/page/../app.py").status_code
        == httpx.get(f"{address}/page/%2e%2e/app.py").status_code
        == 404
    )
