"""Answers of OpenAI's routes, as plain JSON values. ``charforge`` in them is this server's own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from charforge import grammar
from charforge.chat.turn import Drawing, Said
from charforge.serve.engine import ChatEvent, ChatOrder, Drawn, Piece, Progress, Voice
from charforge.serve.requests import base64_png, picture_url

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """One answer to ``order``; ``is_chat``: to chat completions, else to completions, which have pictures nowhere."""

    order: ChatOrder
    is_chat: bool
    created: int = field(default_factory=lambda: int(time.time()))
    number: int = field(default_factory=time.time_ns)

    def of(self, choices: list[Json], chunk: bool = False, **more: Any) -> Json:
        """The answer, or a chunk of it."""
        kind = "chat.completion" + (".chunk" if chunk else "") if self.is_chat else "text_completion"
        name = f"{'chatcmpl' if self.is_chat else 'cmpl'}-{self.number:x}"
        return {
            "id": name, "object": kind, "created": self.created, "model": self.order.voice, "choices": choices, **more,
        }  # fmt: skip

    def whole(self, said: Mapping[int, Said]) -> Json:
        """All of it at once."""
        return self.of([self._choice(number, one) for number, one in sorted(said.items())], usage=usage(said.values()))

    def _choice(self, number: int, said: Said) -> Json:
        ended = {"index": number, "finish_reason": said.finish, "logprobs": self._scores(said)}
        if not self.is_chat:
            return {**ended, "text": said.reply.text}
        message: Json = {"role": "assistant", "content": said.reply.text}
        if said.reply.image:
            message["images"] = [picture_url(said.reply.image)]
        return {**ended, "message": message, "charforge": self._own(number, said)}

    def _scores(self, said: Said) -> Json | None:
        if not self.is_chat or self.order.top is None:
            return None

        def one(token: str, logprob: float) -> Json:
            return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

        each = [
            {**one(scored.token, scored.logprob), "top_logprobs": [one(*other) for other in scored.top]}
            for scored in said.scores
        ]
        return {"content": each, "refusal": None}

    def begun(self, number: int) -> Json:
        """The chunk before the first word."""
        return self._chunk(number, {"role": "assistant", "content": ""}, "")

    def chunks(self, number: int, event: ChatEvent) -> list[Json]:
        """What ``event`` adds to the choice ``number`` of a stream."""
        match event:
            case Piece(text):
                return [self._chunk(number, {"content": text}, text)]
            case Drawing(plan):
                return self._drawing(number, {"plan": plan, "step": 0, "steps": None, "preview": None})
            case Progress(done, steps, preview):
                shown = f"data:image/png;base64,{base64_png(preview)}" if preview else None
                return self._drawing(number, {"step": done, "steps": steps, "preview": shown})
            case Said():
                image = event.reply.image
                pictures = [self._chunk(number, {"images": [picture_url(image)]}, "")] if image and self.is_chat else []
                last = self._chunk(number, {}, "", event.finish, charforge=self._own(number, event))
                last["choices"][0]["logprobs"] = self._scores(event)
                return [*pictures, last]

    def _drawing(self, number: int, how_far: Json) -> list[Json]:
        return [self._chunk(number, {}, "", charforge={"drawing": how_far})] if self.is_chat else []

    def _chunk(self, number: int, delta: Json, text: str, finish: str | None = None, **more: Any) -> Json:
        said = {"delta": delta} if self.is_chat else {"text": text}
        return self.of([{"index": number, **said, "finish_reason": finish, "logprobs": None}], chunk=True, **more)

    def _own(self, number: int, said: Said) -> Json:
        # what was said, and not only what was drawn: the client sends it back, and the character knows it again
        plan = grammar.split_plan(said.text)[1]
        return {"plan": plan, "seed": self.order.seed + number, "likeness": said.reply.likeness}


def usage(said: Iterable[Said]) -> Json:
    """Tokens that were read and said; what several replies have in common counts once."""
    each = list(said)
    read, spoken = max((one.tokens[0] for one in each), default=0), sum(one.tokens[1] for one in each)
    return {"prompt_tokens": read, "completion_tokens": spoken, "total_tokens": read + spoken}


def model_entry(voice: Voice) -> Json:
    """A row of the list of models."""
    own = {
        "name": voice.name,
        "class": (voice.character.class_noun or None) if voice.character else None,
        "greetings": list(voice.greetings),
        "avatar": f"/characters/{quote(voice.id)}/avatar.png" if voice.avatar else None,
        "base": voice.base,
        "bare": voice.character is None,
        "draws": True,
        "description": voice.description,
    }
    return {"id": voice.id, "object": "model", "created": 0, "owned_by": "charforge", "charforge": own}


def pictures(drawn: Drawn, seed: int) -> Json:
    """The answer to images/generations."""
    each = [
        {
            "b64_json": base64_png(picture),
            "revised_prompt": drawn.prompt,
            "charforge": {"seed": seed + number, "likeness": drawn.likeness[number] if drawn.likeness else None},
        }
        for number, picture in enumerate(drawn.pictures)
    ]
    return {"created": int(time.time()), "data": each}


def error(message: str, kind: str, code: str | None = None, param: str | None = None) -> Json:
    """An error in the shape of OpenAI's interface."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
