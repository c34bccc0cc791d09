"""Any OpenAI-compatible URL: the writer ``endpoint``, and the judge of an evaluation.

The key comes from the environment and is neither shown nor stored.
"""

from __future__ import annotations

import base64
import io
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from charforge.errors import InputError, MachineError
from charforge.expand.asking import Request
from charforge.expand.kept import Kept
from charforge.expand.sight import probe_pictures

KEY_VARIABLE = "CHARFORGE_API_KEY"
TRIES = 5
TIMEOUT = httpx.Timeout(900.0, connect=30.0)
"""Seconds. Several things asked for at once take a small server without a GPU minutes."""
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Statuses that may be gone when one asks again."""
_MIME = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True)
class EndpointSettings:
    """Where and how to ask. Prices in your currency per million tokens, for the cost line only; ``options`` names where
    the user said it, for messages."""

    url: str
    model: str
    requests_per_minute: float = 60.0
    temperature: float = 0.8
    price_in: float = 0.0
    price_out: float = 0.0
    options: str = "--url and --model"


@dataclass
class Spent:
    """What the endpoint said it used."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def line(self, settings: EndpointSettings) -> str:
        """For a person: requests, tokens and, if prices are known, the cost."""
        told = f"{self.requests} requests, {self.tokens_in} tokens in, {self.tokens_out} out"
        cost = (self.tokens_in * settings.price_in + self.tokens_out * settings.price_out) / 1e6
        return f"{told}, cost {cost:.4f}" if settings.price_in or settings.price_out else told


@dataclass
class Endpoint:
    """Callable as ``authored.Complete``. ``pictures`` maps names to files, for requests that show one."""

    settings: EndpointSettings
    kept: Kept
    pictures: dict[str, Path]
    seed: int = 0
    on_done: Callable[[int, int], None] = lambda done, of: None
    transport: httpx.BaseTransport | None = None
    pause: Callable[[float], None] = time.sleep
    spent: Spent = field(default_factory=Spent)

    def __call__(self, requests: Sequence[Request]) -> list[str]:
        """Ask for what is not kept yet. Raises InputError (refused) or MachineError (no answer after ``TRIES``)."""
        missing = self.kept.missing(requests)
        key = os.environ.get(KEY_VARIABLE, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        interval, last = 60.0 / self.settings.requests_per_minute, 0.0
        with httpx.Client(headers=headers, timeout=TIMEOUT, transport=self.transport) as client:
            for done, request in enumerate(missing, start=1):
                self.pause(max(0.0, last + interval - time.monotonic()))
                last = time.monotonic()
                self.kept.add(request, self._ask(client, request))
                self.on_done(done, len(missing))
        return self.kept.texts(requests)

    def _ask(self, client: httpx.Client, request: Request) -> str:
        url = f"{self.settings.url.rstrip('/')}/chat/completions"
        body = {
            "model": self.settings.model,
            "messages": self._messages(request),
            "max_tokens": request.max_tokens,
            "temperature": self.settings.temperature,
            "seed": self.seed,
        }
        trouble, delay = "", 0.0
        for attempt in range(TRIES):
            self.pause(delay)
            # doubling, with jitter so that several runs do not knock at the same moment
            delay = 2.0**attempt * (1 + random.Random(f"{request.messages} {attempt}").random())
            try:
                answer = client.post(url, json=body)
            except httpx.HTTPError as error:
                trouble = f"does not answer ({type(error).__name__})"
                continue
            if answer.status_code in _PASSING:
                trouble = f"answers {answer.status_code}"
                delay = _retry_after(answer.headers.get("Retry-After"), delay)
                continue
            if answer.status_code in (401, 403):
                raise InputError(f"{url} refuses the key: set the environment variable {KEY_VARIABLE}")
            if answer.status_code >= 400:
                raise InputError(f"{url} refuses the request ({answer.status_code}): check {self.settings.options}")
            return self._text(answer, url)
        raise MachineError(
            f"{url} {trouble} after {TRIES} tries: what was written so far is kept, run the same command again later"
        )

    def _messages(self, request: Request) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in request.messages]
        if request.image is not None:
            uri = _data_uri(request.image, self.pictures)
            text = {"type": "text", "text": request.messages[-1][1]}
            messages[-1]["content"] = [{"type": "image_url", "image_url": {"url": uri}}, text]
        return messages

    def _text(self, answer: httpx.Response, url: str) -> str:
        try:
            data = answer.json()
            text = data["choices"][0]["message"]["content"] or ""
            usage = data.get("usage") or {}
            self.spent.requests += 1
            self.spent.tokens_in += int(usage.get("prompt_tokens") or 0)
            self.spent.tokens_out += int(usage.get("completion_tokens") or 0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise InputError(
                f"{url} does not answer as an OpenAI-compatible endpoint: check {self.settings.options}"
            ) from error
        if not isinstance(text, str):
            raise InputError(f"{url} does not answer as an OpenAI-compatible endpoint: check {self.settings.options}")
        return text

    def _no_endpoint(self, url: str) -> str:
        return f"{url} does not answer as an OpenAI-compatible endpoint: check {self.settings.options}"


def _data_uri(name: str, pictures: dict[str, Path]) -> str:
    """A picture as it is sent: the user's file as it is, or one of the known pictures."""
    file = pictures.get(name)
    if file is not None:
        return f"data:{_MIME[file.suffix.lower()]};base64,{base64.b64encode(file.read_bytes()).decode()}"
    out = io.BytesIO()
    probe_pictures()[name].save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def _retry_after(value: str | None, otherwise: float) -> float:
    """Seconds that the server asks to wait, at most two minutes."""
    try:
        return min(120.0, max(0.0, float(value))) if value else otherwise
    except ValueError:
        return otherwise
