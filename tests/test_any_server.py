"""The official client at any server that behaves as charforge's: the one of these tests, or whichever is named.

    CHARFORGE_SERVER_URL=http://127.0.0.1:8000 pytest tests/test_any_server.py

CHARFORGE_SERVER_KEY is its key, where it has one; CHARFORGE_SERVER_MODEL the model to talk to, else its first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import openai
import pytest
from openai import OpenAI
from PIL import Image, ImageChops, ImageStat
from served import asked, client_of, picture_of, sent_picture, served, tiny_engine

QUESTION = "Is it in a forest ?"


@pytest.fixture(scope="module")
def client() -> Iterator[OpenAI]:
    named = os.environ.get("CHARFORGE_SERVER_URL", "").rstrip("/").removesuffix("/v1")
    if named:
        yield client_of(named, os.environ.get("CHARFORGE_SERVER_KEY", "none"))
        return
    with served(tiny_engine()) as address:
        yield client_of(address)


@pytest.fixture(scope="module")
def model(client: OpenAI) -> str:
    return os.environ.get("CHARFORGE_SERVER_MODEL") or next(iter(client.models.list())).id


def apart(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures, of 255."""
    return float(np.mean(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean))


def test_pieces_of_a_stream_are_the_reply(client: OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=asked(QUESTION), seed=3, max_tokens=20)
    stream = client.chat.completions.create(
        model=model, messages=asked(QUESTION), seed=3, max_tokens=20, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content and len(chunks) > 4
    assert chunks[-1].usage == whole.usage and chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_a_picture_that_is_sent_is_looked_at(client: OpenAI, model: str) -> None:
    text, picture = (
        {"type": "text", "text": QUESTION},
        {"type": "image_url", "image_url": {"url": sent_picture("red"), "detail": "auto"}},
    )
    words, looked = (
        client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": parts}], seed=1, max_tokens=5
        ).usage.prompt_tokens
        for parts in ([text], [text, picture])
    )
    assert looked > words


def test_several_replies_stops_and_lengths(client: OpenAI, model: str) -> None:
    several = client.chat.completions.create(model=model, messages=asked(QUESTION), seed=5, n=3)
    alone = [client.chat.completions.create(model=model, messages=asked(QUESTION), seed=5 + n) for n in range(3)]
    assert [choice.message.content for choice in several.choices] == [one.choices[0].message.content for one in alone]
    long = client.chat.completions.create(model=model, messages=asked(QUESTION), seed=1, max_completion_tokens=3)
    assert long.choices[0].finish_reason == "length" and long.usage.completion_tokens == 3
    text = several.choices[0].message.content or ""
    word = text.split()[2]
    stopped = client.chat.completions.create(model=model, messages=asked(QUESTION), seed=5, stop=[word])
    assert stopped.choices[0].message.content == text[: text.index(word)].strip()
    assert stopped.choices[0].finish_reason == "stop"


def test_pictures_are_drawn_by_seed(client: OpenAI, model: str) -> None:
    def drawn(seed: int, count: int = 1) -> list[Image.Image]:
        answer = client.images.generate(
            model=model, prompt="in a forest", response_format="b64_json", n=count, extra_body={"seed": seed}
        )
        return [picture_of(str(image.b64_json)) for image in answer.data]

    two, one, other = drawn(4, 2), drawn(4)[0], drawn(5)[0]
    assert one.format == "PNG" and drawn(4)[0].tobytes() == one.tobytes()
    # drawn together they may be rounded differently
    assert apart(two[0], one) < 4 < apart(two[0], other) and apart(two[1], other) < 4


def test_a_picture_comes_with_words_where_it_is_asked_for(client: OpenAI, model: str) -> None:
    said = client.chat.completions.create(
        model=model, messages=asked(QUESTION), seed=1, max_tokens=30, extra_body={"pictures": "always"}
    )
    (image,) = said.choices[0].message.images  # type: ignore[attr-defined]
    assert picture_of(image["image_url"]["url"]).format == "PNG"


def test_what_is_wrong_is_an_error_of_the_client(client: OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.chat.completions.create(model="nobody", messages=asked(QUESTION))
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=model, messages=[])
