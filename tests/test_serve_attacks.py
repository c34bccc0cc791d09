"""What a stranger sends to the server: it is refused in a sentence, and everybody else goes on."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import socket
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from PIL import Image
from served import running, served, tiny_engine
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from typer.testing import CliRunner

from charforge.cli.main import app
from charforge.cli.serve import address_of
from charforge.errors import InputError, MachineError
from charforge.sampling import nucleus
from charforge.serve.engine import Busy
from charforge.serve.guard import Access
from charforge.serve.heads import heads_within
from charforge.serve.listen import access_of, open_socket
from charforge.serve.listening import with_pulse
from charforge.serve.requests import MOST_PICTURES, read_data_url
from charforge.serve.voices import free_id, slug


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(tiny_engine()) as address:
        yield address


def said(text: str = "Yes") -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "pictures": "never"}


def picture(kind: str, image: Image.Image | None = None) -> str:
    file = io.BytesIO()
    (image or Image.new("RGB", (8, 8), "red")).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def test_a_temperature_of_nearly_nothing_is_none(address: str) -> None:
    bodies = [said() | {"temperature": value, "seed": 1} for value in (0, 1e-300, 1e-40)]
    texts = [httpx.post(f"{address}/v1/chat/completions", json=body).json()["choices"] for body in bodies]
    assert texts[0] == texts[1] == texts[2]
    import torch

    generator = torch.Generator().manual_seed(0)
    assert nucleus(torch.tensor([[1.0, 3.0, 2.0]]), 1e-300, 0.9, generator).tolist() == [1]


def test_more_pictures_than_are_looked_at_are_refused_before_one_is_opened(address: str) -> None:
    parts = [{"type": "image_url", "image_url": "data:image/png;base64,nothing"}] * (MOST_PICTURES + 1)
    answer = httpx.post(f"{address}/v1/chat/completions", json={"messages": [{"role": "user", "content": parts}]})
    assert (
        answer.status_code == 400 and f"{MOST_PICTURES + 1} pictures are more than" in answer.json()["error"]["message"]
    )


def test_a_message_longer_than_the_base_reads_is_refused(address: str) -> None:
    answer = httpx.post(f"{address}/v1/chat/completions", json=said("Yes " * 20_000), timeout=60)
    assert answer.status_code == 400 and "that this base reads" in answer.json()["error"]["message"]


@pytest.mark.parametrize("header", [{"Host": "["}, {"Host": "[::1"}, {"Host": "[]"}, {"Origin": "http://["}])
def test_headers_that_are_no_addresses_are_refused(address: str, header: dict[str, str]) -> None:
    assert httpx.get(f"{address}/v1/models", headers=header).status_code == 403


@pytest.mark.parametrize(
    ("body", "content", "message"),
    [
        (b"{", "application/json", "is no JSON"),
        (b'{"messages": []}', "text/plain", "Content-Type: application/json"),
        (b"[" * 100_000, "application/json", "JSON"),
        (b'{"messages": "\xff"}', "application/json", "JSON"),
        (b'{"messages": [{"role": "user", "content": 5}]}', "application/json", "messages.0.content: "),
    ],
)
def test_bodies_that_cannot_be_read_say_what_to_send(address: str, body: bytes, content: str, message: str) -> None:
    answer = httpx.post(f"{address}/v1/chat/completions", content=body, headers={"Content-Type": content})
    assert answer.status_code == 400 and message in answer.json()["error"]["message"]


def test_what_is_not_there_says_where_to_look(address: str) -> None:
    for answer in (httpx.get(f"{address}/v1/embeddings"), httpx.put(f"{address}/v1/models")):
        assert "/openapi.json" in answer.json()["error"]["message"]
    assert httpx.head(f"{address}/health").status_code == httpx.head(f"{address}/").status_code == 200


def test_settings_that_are_no_text_come_back_to_nobody(address: str) -> None:
    raw = b'{"prompt": "Wren", "seed": 1, "override_settings": {"x": "\\ud800"}}'
    answer = httpx.post(
        f"{address}/sdapi/v1/txt2img", content=raw, headers={"Content-Type": "application/json"}, timeout=60
    )
    assert (answer.status_code in (200, 400) and "error" in answer.text) or answer.json()["images"]


def test_a_long_body_without_a_length_is_told_to_be_too_long() -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(50):
            yield b"x" * 100

    with served(tiny_engine(), Access(most_bytes=1000)) as address:
        answer = httpx.post(f"{address}/v1/chat/completions", content=endless())
    assert answer.status_code == 413 and "larger than" in answer.json()["error"]["message"]


def test_a_body_whose_rest_does_not_come_is_not_waited_for_for_ever() -> None:
    with served(tiny_engine(), Access(body_seconds=0.3)) as address:
        to = httpx.URL(address)
        with socket.create_connection((to.host, to.port), timeout=30) as half:
            half.sendall(
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: {to.host}:{to.port}\r\nContent-Length: 100\r\n"
                'Content-Type: application/json\r\n\r\n{"mess'.encode()
            )
            assert half.recv(1000).startswith(b"HTTP/1.1 408")
        assert httpx.post(f"{address}/v1/chat/completions", json=said(), timeout=60).status_code == 200


def test_a_head_whose_rest_does_not_come_is_not_waited_for_for_ever() -> None:
    async def hello(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("hello")(scope, receive, send)

    whole = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
    with running(hello, heads_within(1.0)) as address:
        to = httpx.URL(address)
        for first in (b"", b"GET / HT", whole + b"GET / HT"):
            with socket.create_connection((to.host, to.port), timeout=30) as half:
                half.sendall(first)
                # what was asked for whole is answered, and then the connection ends
                got = b"".join(iter(lambda: half.recv(1000), b""))
                assert got.startswith(b"HTTP/1.1 200") == first.startswith(whole)
        # one that is asked now and then stays open
        with httpx.Client() as client:
            for _ in range(4):
                assert client.get(address).text == "hello"
                time.sleep(0.4)


def test_the_password_of_a_web_ui_is_the_key() -> None:
    with served(tiny_engine(), Access(key="sesame", only_here=False)) as address:
        models = f"{address}/sdapi/v1/sd-models"
        assert httpx.get(models, auth=("anybody", "sesame")).status_code == 200
        assert httpx.get(models, auth=("sesame", "wrong")).status_code == 401
        assert httpx.get(models, headers={"Authorization": "Basic !!"}).status_code == 401


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_base64_is_read_as_programs_write_it(kind: str) -> None:
    text = picture(kind)
    lines = "\n".join(text[n : n + 76] for n in range(0, len(text), 76))
    for written in (text, lines, text.rstrip("="), text.translate(str.maketrans("+/", "-_"))):
        assert read_data_url(f"DATA:image/png;base64,{written}").size == (8, 8)


@pytest.mark.parametrize(
    ("url", "message"),
    [("data:image/png;base64", "comma"), ("data:,!!", "no base64"), ("data:,AAAA", "no picture that can be read")],
)
def test_pictures_that_cannot_be_read_say_why(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_data_url(url)


def test_pictures_of_more_pixels_than_are_opened_are_refused() -> None:
    with pytest.raises(InputError, match="million pixels"):
        read_data_url(f"data:,{picture('PNG', Image.new('1', (6000, 5000)))}")


# starting


def test_addresses_and_keys_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "schlüssel")
    monkeypatch.setenv("EMPTY", " ")
    for host, key, origins, message in (
        ("127.0.0.1", "KEY", [], "ASCII"), ("127.0.0.1", "EMPTY", [], "not set, or empty"),
        ("127.0.0.1", "NOT_SET_AT_ALL", [], "not set, or empty"), ("0.0.0.0", None, [], "choose a key"),
        ("", None, [], "no address of this machine"), ("300.1.1.1.invalid", None, [], "no address of this machine"),
        ("localhost", None, ["*"], "give the address of a page"), ("localhost", None, ["a.b"], "the address of a page"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            access_of(host, key, origins)
    assert access_of("localhost", None, ["http://Localhost:3000/"]).origins == ("http://localhost:3000",)


def test_an_address_is_taken_as_soon_as_it_is_open() -> None:
    with (
        open_socket("127.0.0.1", 0) as first,
        pytest.raises(MachineError, match="another program may use it"),
        open_socket("127.0.0.1", first.getsockname()[1]),
    ):
        raise AssertionError("two servers have one address")


def test_addresses_are_told_as_browsers_take_them() -> None:
    assert address_of("::1", 80) == "http://[::1]:80"
    assert address_of("0.0.0.0", 80) == address_of("127.0.0.1", 80) == "http://127.0.0.1:80"


def test_an_engine_that_is_no_address_is_refused(tmp_path) -> None:
    result = CliRunner().invoke(app, ["serve", str(tmp_path), "--engine-url", "notaurl", "--port", "0"])
    assert result.exit_code == 1 or isinstance(result.exception, InputError)


def test_names_become_ids_that_can_be_told_apart() -> None:
    assert [slug(name) for name in ("Mam the Cat", "雪", "Ёж", "🐈", "  ")] == [
        "mam-the-cat", "雪", "ёж", "character", "character",
    ]  # fmt: skip


def test_the_base_has_an_id_that_no_character_has() -> None:
    assert free_id("mini", ["wren"]) == "mini" and free_id("mini", ["mini"]) == "mini-base"
    assert free_id("mini", ["mini", "mini-base", "mini-base-2"]) == "mini-base-3"


def test_a_refusal_that_nobody_waits_for_any_more_is_no_matter_for_the_log() -> None:
    complaints: list[str] = []

    async def refused() -> AsyncIterator[int]:
        if not complaints:
            raise Busy("later", 1)
        yield 1

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["message"]))
        waiting = asyncio.ensure_future(anext(with_pulse(refused(), 10)))
        # long enough for the refusal, not for it to be heard
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises((asyncio.CancelledError, Busy)):
            await waiting
        del waiting
        gc.collect()

    asyncio.run(leave())
    gc.collect()
    assert not complaints
