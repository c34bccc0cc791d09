"""The engine that has another server compute: vLLM with merged weights, another charforge, or whatever speaks OpenAI's
interface. What belongs to a character stays here: its prompt, its lorebook, and that a picture follows its plan."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image

from charforge import grammar
from charforge.chat.history import kept_from
from charforge.chat.lore import LORE_SHARE, Lorebook, called_for
from charforge.chat.messages import Message, Reply
from charforge.chat.turn import PLANLESS, Drawing, Said
from charforge.chat.utterance import Finish, before_plan, readable
from charforge.errors import CharforgeError, InputError
from charforge.room import tokens_of
from charforge.serve.engine import (
    Busy,
    ChatEvent,
    ChatOrder,
    Drawn,
    Figures,
    PictureEvent,
    PictureOrder,
    Piece,
    Progress,
    TooLate,
    Unavailable,
    Voice,
)
from charforge.serve.plans import Plans
from charforge.serve.requests import picture_url, read_base64
from charforge.settings import ChatSettings

LOG = logging.getLogger("charforge.serve")
LONGEST_LINE = 64 << 20


class NoRoute(InputError):
    """The other server does not know what it is asked for: a route, or a model."""


@dataclass(frozen=True)
class RemoteVoice:
    """A character of a bundle, and what the other server calls the model that speaks for it."""

    voice: Voice
    settings: ChatSettings
    lore: Lorebook
    model: str


@dataclass(frozen=True)
class Upstream:
    """The other server: ``url`` up to and with ``/v1``. ``context`` is in tokens."""

    url: str
    key: str | None = None
    context: int = 32_768
    seconds: float = 600.0


class RemoteEngine:
    """See :class:`charforge.serve.engine.Engine`."""

    def __init__(self, voices: Iterable[RemoteVoice], upstream: Upstream, waiting: int) -> None:
        self._voices = {one.voice.id: one for one in voices}
        self._upstream, self._waiting = upstream, waiting
        headers = {"Authorization": f"Bearer {upstream.key}"} if upstream.key else {}
        self._http = httpx.AsyncClient(
            base_url=upstream.url.rstrip("/") + "/",
            headers=headers,
            timeout=httpx.Timeout(upstream.seconds, connect=10),
        )
        self._plans = Plans()
        self._active = self._pictures = 0
        self._draws = True

    @property
    def voices(self) -> Mapping[str, Voice]:
        return {name: one.voice for name, one in self._voices.items()}

    def figures(self) -> Figures:
        return Figures(active=self._active, pictures=self._pictures)

    def stop(self) -> None:
        """Nothing is computed here: what is under way ends with the connections."""

    def close(self) -> None:
        """See :meth:`stop`."""

    async def chat(self, order: ChatOrder) -> AsyncIterator[tuple[int, ChatEvent]]:
        heard: asyncio.Queue[tuple[int, ChatEvent | CharforgeError]] = asyncio.Queue()

        async def follow(number: int) -> None:
            try:
                async for event in self._reply(order, order.seed + number):
                    heard.put_nowait((number, event))
            except CharforgeError as error:
                heard.put_nowait((number, error))

        self._begin(order.count)
        tasks = [asyncio.ensure_future(follow(number)) for number in range(order.count)]
        left = order.count
        try:
            while left:
                number, event = await heard.get()
                if isinstance(event, CharforgeError):
                    raise event
                if isinstance(event, Said):
                    self._plans.remember(order.voice, event)
                    left -= 1
                yield number, event
        finally:
            self._active -= order.count
            for task in tasks:
                task.cancel()

    async def draw(self, order: PictureOrder) -> AsyncIterator[PictureEvent]:
        character = self._voices[order.voice].voice.character
        prompt = grammar.caption_with_name(character, order.prompt) if character else order.prompt
        self._begin(1)
        try:
            yield Progress(0, 1)
            drawn = [await self._picture(order.voice, prompt, order.seed + number) for number in range(order.count)]
            yield Drawn(tuple(drawn), prompt)
        finally:
            self._active -= 1

    def _begin(self, count: int) -> None:
        if self._active + count > self._waiting:
            raise Busy(f"{self._active} orders are under way already: try again later", 10)
        self._active += count

    async def _reply(self, order: ChatOrder, seed: int) -> AsyncIterator[ChatEvent]:
        voice = self._voices[order.voice]
        character = voice.voice.character
        text, shown, finish, tokens = "", 0, "stop", (0, 0)
        async for chunk in self._stream(self._body(voice, order, seed)):
            for choice in chunk.get("choices") or []:
                text += (choice.get("delta") or {}).get("content") or ""
                finish = choice.get("finish_reason") or finish
            if chunk.get("usage"):
                tokens = (chunk["usage"].get("prompt_tokens", 0), chunk["usage"].get("completion_tokens", 0))
            end = readable(text)
            if end > shown:
                yield Piece(text[shown:end])
                shown = end
        if (rest := before_plan(text).rstrip()[shown:]) and rest.strip():
            yield Piece(rest)
        words, plan = grammar.split_plan(text)
        picture: Image.Image | None = None
        if character and (order.pictures == "always" or (order.pictures == "auto" and plan)):
            plan = plan or PLANLESS.format(name=character.name)
            if self._draws:
                yield Drawing(plan)
                picture = await self._picture_of_reply(
                    order.voice, grammar.picture_prompt(character, plan, words), seed
                )
        ended: Finish = "length" if finish == "length" else "stop"
        yield Said(Reply(words, plan if picture else None, picture), text.strip(), ended, tokens)

    def _body(self, voice: RemoteVoice, order: ChatOrder, seed: int) -> dict[str, Any]:
        own = voice.settings
        chosen = {
            "temperature": order.temperature, "top_p": order.top_p, "repetition_penalty": order.repetition_penalty,
            "max_tokens": order.max_tokens,
        }  # fmt: skip
        settings = {name: value if value is not None else getattr(own, name) for name, value in chosen.items()}
        messages = self._messages(voice, order, order.max_tokens or own.max_tokens)
        return {
            "model": voice.model, "messages": messages, "seed": seed,
            "stream": True, "stream_options": {"include_usage": True}, "stop": list(order.stop) or None, **settings,
        }  # fmt: skip

    def _messages(self, voice: RemoteVoice, order: ChatOrder, reply_tokens: int) -> list[dict[str, Any]]:
        messages = self._plans.restored(order.voice, order.messages)
        character = voice.voice.character
        user = f"You are talking to {order.user}." if order.user else ""
        prompt = " ".join(part for part in (grammar.system_prompt(character) if character else "", user) if part)
        told = [part for part in (prompt, order.told) if part]
        # estimated: the tokenizer is the other server's
        room = self._upstream.context - reply_tokens - tokens_of("\n".join(told)) - self._upstream.context // LORE_SHARE
        lengths = [tokens_of(message.text) + 1000 * len(message.images) for message in messages]
        kept = messages[kept_from(lengths, [message.who == "user" for message in messages], room) :]
        lore = called_for(
            voice.lore, [m.shown for m in messages], tokens_of, self._upstream.context // LORE_SHARE
        )  # fmt: skip
        said = [_as_sent(message) for message in kept]
        known = [{"role": "system", "content": "\n".join(lore)}] if lore else []
        system = [{"role": "system", "content": "\n".join(told)}] if told else []
        return [*system, *said[:-1], *known, *said[-1:]]

    async def _stream(self, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The chunks of a streamed answer. Raises what :meth:`chat` raises."""
        try:
            async with self._http.stream("POST", "chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    raise _refused(answer)
                async for line in answer.aiter_lines():
                    if not line.startswith("data:") or len(line) > LONGEST_LINE:
                        continue
                    data = line.removeprefix("data:").strip()
                    if data == "[DONE]":
                        return
                    chunk = json.loads(data)
                    if isinstance(chunk, dict) and "error" in chunk:
                        raise Unavailable(f"{self._upstream.url} failed: {_message(chunk)}")
                    if isinstance(chunk, dict):
                        yield chunk
        except (httpx.HTTPError, ValueError) as error:
            raise self._lost(error) from error

    async def _picture_of_reply(self, name: str, prompt: str, seed: int) -> Image.Image | None:
        """None from a server that speaks and does not draw, as those of language models alone: it is asked once."""
        try:
            return await self._picture(name, prompt, seed)
        except NoRoute as error:
            self._draws = False
            LOG.warning("%s draws no pictures: replies come without them (%s)", self._upstream.url, error)
            return None

    async def _picture(self, name: str, prompt: str, seed: int) -> Image.Image:
        voice = self._voices[name]
        body = {"model": voice.model, "prompt": prompt, "seed": seed, "n": 1, "response_format": "b64_json"}
        try:
            answer = await self._http.post("images/generations", json=body)
            if answer.status_code != 200:
                raise _refused(answer)
            data = answer.json()["data"][0]["b64_json"]
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise self._lost(error) from error
        self._pictures += 1
        return read_base64(data)

    def _lost(self, error: Exception) -> CharforgeError:
        if isinstance(error, httpx.TimeoutException):
            return TooLate(f"{self._upstream.url} took longer than {self._upstream.seconds:g} seconds")
        what = "cannot be reached" if isinstance(error, httpx.HTTPError) else "gave an answer that cannot be understood"
        return Unavailable(f"{self._upstream.url} {what} ({type(error).__name__}): look whether it runs")


def _as_sent(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.who, "content": message.text}
    text: Sequence[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text else []
    return {"role": message.who, "content": [*(picture_url(image) for image in message.images), *text]}


def _refused(answer: httpx.Response) -> CharforgeError:
    try:
        said = _message(answer.json())
    except ValueError:
        said = answer.text[:200]
    if answer.status_code == 429:
        wait = answer.headers.get("retry-after", "")
        return Busy(f"the other server is busy: {said}", int(wait) if wait.isdecimal() else 10)
    if answer.status_code in (404, 405, 501):
        return NoRoute(f"the other server does not offer this ({answer.status_code}): {said}")
    if 400 <= answer.status_code < 500:
        return InputError(f"the other server refused this ({answer.status_code}): {said}")
    return Unavailable(f"the other server failed ({answer.status_code}): {said}")


def _message(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or body)[:200]
