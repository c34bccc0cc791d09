"""What a stranger sends to the server: it is refused in a sentence, and everybody else goes on."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import math
import re
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
from charforge.serve.app import create_app
from charforge.serve.engine import Busy
from charforge.serve.guard import Access
from charforge.serve.listen import access_of, open_socket
from charforge.serve.listening import with_pulse
from charforge.serve.protocol import protocol_within
from charforge.serve.requests import MOST_PICTURES, ImageRequest, is_size, read_data_url
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
    with running(hello, protocol_within(0.5)) as address:
        to = httpx.URL(address)
        for first, then in ((b"", b""), (b"GET / HT", b""), (whole, b"GET / HT")):
            with socket.create_connection((to.host, to.port), timeout=30) as half:
                half.sendall(first)
                if then:
                    answer = b""
                    while not answer.endswith(b"hello"):
                        answer += half.recv(1000)
                    half.sendall(then)
                assert half.recv(1000) == b""
        # one that is asked now and then stays open
        with httpx.Client() as client:
            for _ in range(4):
                assert client.get(address).text == "hello"
                time.sleep(0.2)


HERE = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    ("raw", "status", "message"),
    [
        (b"GET /health HTTP/1.1\r\n\r\n", 400, "has no Host header"),
        (b"GET /health HTTP/1.1\r\n" + HERE + HERE + b"\r\n", 400, "several Host headers"),
        (b"GET /health HTTP/1.1\r\n" + HERE + b"X: " + b"x" * 99_000, 431, "too long"),
        (b"\x00\x01garbage\r\n\r\n", 400, "cannot be read as HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(99), 400, "http:// and not https://"),
        (b"GET / HTTP/1.1\r\n" + HERE + b"no colon\r\n\r\n", 400, "`Name: value`"),
        (b"POST / HTTP/1.1\r\n" + HERE + b"Content-Length: -5\r\n\r\n", 400, "no number of bytes"),
        (b"POST / HTTP/1.1\r\n" + HERE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "that differ"),
        (b"POST / HTTP/1.1\r\n" + HERE + b"Transfer-Encoding: gzip\r\n\r\n", 501, "chunked"),
        (b"POST /v1/completions HTTP/1.1\r\n" + HERE + b"Content-Type: application/json\r\n"
         b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "begin with its length"),
    ],
)  # fmt: skip
def test_what_is_no_http_is_refused_as_everything_else(raw: bytes, status: int, message: str) -> None:
    with running(create_app(tiny_engine(), Access()), protocol_within(30.0)) as address:
        to = httpx.URL(address)
        with socket.create_connection((to.host, to.port), timeout=30) as client:
            client.sendall(raw)
            head, _, body = client.recv(65536).partition(b"\r\n\r\n")
            while len(body) < int(re.search(rb"content-length: (\d+)", head)[1]):  # type: ignore[index]
                body += client.recv(65536)
        assert head.startswith(f"HTTP/1.1 {status} ".encode()) and b"application/json" in head
        assert message in json.loads(body)["error"]["message"]
        assert httpx.get(f"{address}/health").status_code == 200


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"temperature": math.nan}, "temperature: send a number, not NaN"),
        ({"temperature": math.inf}, "temperature: send at most 100, not Infinity"),
        ({"temperature": "hot"}, 'temperature: send a number, not "hot"'),
        ({"n": 1.5}, "n: send a whole number, not 1.5"),
        ({"n": math.nan}, "n: send a number, not NaN"),
        ({"seed": -(2**70)}, "seed: send at least -9223372036854775808, not -1180591620717411303424"),
        ({"seed": 10**60}, "seed: send less than 9223372036854775808, not a number of 61 digits"),
        ({"messages": []}, "messages: send a list of at least 1, not an empty list"),
        ({"messages": [{"content": "x"}]}, "messages.0.role: it is missing, and nothing can be answered without it"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content: send text or a list, not 5"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type: it is missing"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, 'messages.0.content: send text of whole characters'),
        ({"stop": ["a", 3]}, "stop.1: send text, not 3"),
        ({"stream": "maybe"}, 'stream: send true or false, not "maybe"'),
        ({"stream_options": 5}, "stream_options: send an object, not 5"),
        ({"pictures": ["x"]}, "pictures: send 'auto', 'always' or 'never', not a list of 1"),
        ({"user_persona": "x" * 3000}, "user_persona: send at most 2000 letters, not "),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_meant_is_refused_in_a_plain_sentence(
    address: str, given: dict[str, object], told: str
) -> None:
    body, content = json.dumps(said() | given), {"Content-Type": "application/json"}
    answer = httpx.post(f"{address}/v1/chat/completions", content=body, headers=content)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["message"].startswith(told)
    assert error["param"] == told.partition(":")[0]


@pytest.mark.parametrize("size", ["auto", "", None, "512x512", "1024X1024", "1024*1024", "1792 x 1024", "16:9", "2K"])
def test_sizes_of_other_models_are_no_reason_to_refuse(size: str | None) -> None:
    assert size is None or is_size(size)
    ImageRequest.model_validate({"prompt": "x", "size": size})


@pytest.mark.parametrize(
    "size", ["big", "0x0", "-5x5", "512", "x", "512x", "1x99999", "0x512", "auto x 5", "512px", "0:1"]
)
def test_a_size_that_is_none_is_refused(address: str, size: str) -> None:
    answer = httpx.post(f"{address}/v1/images/generations", json={"prompt": "x", "size": size})
    assert answer.status_code == 400 and f"size: {size!r} is no size; send" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"steps": -2}, "steps: send at least 1, not -2"),
        ({"width": -64}, "width: send at least 1, not -64"),
        ({"height": "tall"}, 'height: send a whole number, not "tall"'),
        ({"cfg_scale": "strong"}, "cfg_scale: send a number"),
        ({"sampler_name": 5}, "sampler_name: send text, not 5"),
        ({"override_settings": {"sd_model_checkpoint": 5}}, "override_settings.sd_model_checkpoint: send text"),
        ({"prompt": "<lora:nobody:1> in a forest"}, "prompt: <lora:nobody> is nobody here; there are wren, tiny"),
        ({"prompt": "<lora:wren:1> <lora:add_detail:0.5> in a forest"}, "prompt: <lora:add_detail> is nobody here"),
        ({"prompt": "<lora:wren:1> <lora:tiny:1> in a forest"}, "prompt: <lora:...> names wren and tiny"),
        ({"prompt": "<lora:wren in a forest"}, "prompt: what begins with <lora: has no end"),
    ],
)
def test_what_a_web_ui_could_not_mean_is_refused(address: str, given: dict[str, object], told: str) -> None:
    answer = httpx.post(f"{address}/sdapi/v1/txt2img", json={"prompt": "x"} | given)
    assert answer.status_code == 400 and answer.json()["error"]["message"].startswith(told)


SILLY_TAVERN = {
    "prompt": "best quality, absurdres, aesthetic, in a forest", "negative_prompt": "lowres, bad anatomy",
    "sampler_name": "DPM++ 2M", "scheduler": "Karras", "steps": 20, "cfg_scale": 7.5, "width": 512, "height": 512,
    "restore_faces": False, "enable_hr": False, "hr_upscaler": "Latent", "hr_scale": 2, "hr_additional_modules": [],
    "denoising_strength": 0.7, "hr_second_pass_steps": 0, "seed": -1,
    "override_settings": {"CLIP_stop_at_last_layers": 1}, "override_settings_restore_afterwards": True,
    "clip_skip": 1, "save_images": True, "send_images": True, "do_not_save_grid": False, "do_not_save_samples": False,
}  # fmt: skip
DEFAULTS_OF_A1111 = {
    "prompt": "x", "styles": None, "seed": -1, "subseed": -1, "subseed_strength": 0, "seed_resize_from_h": -1,
    "seed_resize_from_w": -1, "sampler_name": None, "batch_size": 1, "n_iter": 1, "steps": 50, "cfg_scale": 7.0,
    "width": 512, "height": 512, "eta": None, "override_settings": None, "firstphase_width": 0, "hr_resize_x": 0,
    "sampler_index": "Euler", "script_name": "", "script_args": [], "alwayson_scripts": {}, "infotext": None,
}  # fmt: skip


@pytest.mark.parametrize("sent", [SILLY_TAVERN, DEFAULTS_OF_A1111, {"prompt": "<lora:Wren:0.8> x", "width": "768"}])
def test_what_front_ends_send_of_their_own_is_drawn(address: str, sent: dict[str, object]) -> None:
    answer = httpx.post(f"{address}/sdapi/v1/txt2img", json=sent, timeout=60)
    assert answer.status_code == 200 and answer.json()["images"]


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
