"""What clients send, and what is meant by it. Fields that are not known here are ignored: front ends send many."""

from __future__ import annotations

import base64
import io
import re
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field

from charforge import grammar
from charforge.chat.messages import Message
from charforge.chat.turn import Pictures
from charforge.errors import InputError
from charforge.serve.engine import ChatOrder, PictureOrder

MOST_MESSAGES, MOST_PICTURES, MOST_PIXELS = 2000, 16, 24_000_000
LONGEST_SIDE = 2048
"""Pixels: larger pictures are scaled down before anything else is done with them."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
SEEDS = 2**63
URL_SAFE = str.maketrans("-_", "+/")
Seed = Annotated[int, Field(ge=-SEEDS, lt=SEEDS)]
MOST_SIDE = 16384
"""Pixels. Sizes are those of the base, whatever is asked for: this tells a size of another model from none at all."""
SIZE = re.compile(r"(auto)?|([0-9]{1,5})\s*[x×*:]\s*([0-9]{1,5})|[1-9]K", re.IGNORECASE)
"""As programs write one for the models they know: 1024x1024, 1024*1024, 16:9, 2K."""
SYSTEM = ("system", "developer")
Text = Annotated[str, Field(max_length=1_000_000)]


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class ImageUrl(Body):
    url: str


class ContentPart(Body):
    """A part of a message: its text, or a picture."""

    type: str
    text: Text | None = None
    image_url: ImageUrl | str | None = None


class ChatMessage(Body):
    """``plan`` is what a reply of this server said in ``charforge.plan``: sent back, the character remembers it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[ContentPart] | None = None
    name: str | None = None
    plan: Text | None = None


class StreamOptions(Body):
    include_usage: bool | None = None


class Sampling(Body):
    """How words are chosen; what is left out is as the character's bundle says."""

    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=1, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | list[str] | None = None
    seed: Seed | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ChatRequest(Sampling):
    """POST /v1/chat/completions. Beside OpenAI's: ``pictures``, ``user_persona``, ``previews``."""

    model: str = ""
    messages: list[ChatMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    pictures: Pictures | None = None
    user_persona: Annotated[str, Field(max_length=2000)] | None = None
    previews: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class CompletionRequest(Sampling):
    """POST /v1/completions: ``prompt`` is taken as what the user says."""

    model: str = ""
    prompt: Text | list[Text]


class ImageRequest(Body):
    """POST /v1/images/generations. ``size`` is one of other models: pictures are of the base's own."""

    model: str = ""
    prompt: Annotated[str, Field(min_length=1, max_length=4000)]
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    seed: Seed | None = None
    response_format: Literal["b64_json", "url"] | None = None
    size: str | None = None


def chat_order(request: ChatRequest, voice: str) -> ChatOrder:
    """What is wanted of ``voice``. Raises InputError for pictures that cannot be read and messages without content."""
    count = sum(part.image_url is not None for message in request.messages for part in _parts(message))
    if count > MOST_PICTURES:
        # before any of them is opened
        raise InputError(f"messages: {count} pictures are more than {MOST_PICTURES}; send the latest ones")
    told = [text for message in request.messages if message.role in SYSTEM and (text := words(message))]
    messages = joined([_message(message) for message in request.messages if message.role not in SYSTEM])
    if not messages:
        raise InputError("messages: nobody has said anything; send a message of the role user")
    return ChatOrder(
        voice,
        messages,
        chosen_seed(request.seed),
        request.n or 1,
        request.pictures or "auto",
        (request.user_persona or "").strip().rstrip("."),
        "\n".join(told),
        stops(request.stop),
        request.temperature,
        # a nucleus of nothing is the likeliest word
        max(request.top_p, 1e-6) if request.top_p is not None else None,
        request.repetition_penalty,
        request.max_completion_tokens or request.max_tokens,
        bool(request.previews),
        (request.top_logprobs or 0) if request.logprobs else None,
    )


def completion_request(request: CompletionRequest) -> ChatRequest:
    """The same as a conversation of one message. Raises InputError for several prompts."""
    prompt = request.prompt if isinstance(request.prompt, str) else "".join(request.prompt[:1])
    if not isinstance(request.prompt, str) and len(request.prompt) != 1:
        raise InputError("prompt: one text is answered at a time; send one request for each")
    own = request.model_dump(exclude={"prompt"})
    return ChatRequest(**own, messages=[ChatMessage(role="user", content=prompt)], pictures="never")


def picture_order(request: ImageRequest, voice: str) -> PictureOrder:
    """Raises InputError for an answer in a form that is not given, and for a size that is none."""
    if request.size is not None and not is_size(request.size):
        raise InputError(
            f"size: {request.size[:40]!r} is no size; send WIDTHxHEIGHT, such as 1024x1024, or leave it out: pictures "
            "have the base's own"
        )
    if request.response_format == "url":
        raise InputError("response_format: pictures come in the answer itself; ask for b64_json")
    return PictureOrder(voice, request.prompt, chosen_seed(request.seed), request.n or 1)


def is_size(text: str) -> bool:
    """Whether a picture could have this size."""
    found = SIZE.fullmatch(text.strip())
    return found is not None and all(0 < int(side) <= MOST_SIDE for side in found.groups()[1:] if side)


def chosen_seed(seed: int | None) -> int:
    """The one that is asked for, else any."""
    return secrets.randbelow(2**31) if seed is None else seed


def stops(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """Words that end a reply."""
    several = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(several) > 16 or any(len(word) > 200 for word in several):
        raise InputError("stop: at most 16 words of at most 200 letters")
    return tuple(word for word in several if word)


def words(message: ChatMessage) -> str:
    """The text of a message."""
    if not isinstance(message.content, list):
        return message.content or ""
    return "\n".join(part.text for part in message.content if part.text)


def joined(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Both sides in turn: what one side said in several messages is one. Those without content are left out."""
    turns: list[Message] = []
    for message in messages:
        if not message.text.strip() and not message.images:
            continue
        if turns and turns[-1].who == message.who:
            before = turns.pop()
            text = "\n".join(text for text in (before.text, message.text) if text)
            message = Message(message.who, text, before.images + message.images)
        turns.append(message)
    return tuple(turns)


def _parts(message: ChatMessage) -> list[ContentPart]:
    return message.content if isinstance(message.content, list) else []


def _message(message: ChatMessage) -> Message:
    text = words(message)
    if message.role == "assistant":
        return Message("assistant", grammar.with_plan(text, message.plan) if message.plan else text)
    urls = [part.image_url for part in _parts(message) if part.image_url is not None]
    images = tuple(read_data_url(url if isinstance(url, str) else url.url) for url in urls)
    return Message("user", text, images)


def read_data_url(url: str) -> Image.Image:
    """The picture of a ``data:`` URL, upright, RGB. Nothing is ever fetched, and no file is read.

    Raises InputError for any other URL and for what is no picture, or too large.
    """
    if url[:5].lower() != "data:":
        raise InputError("image_url: nothing is fetched from elsewhere; send the picture itself, as a data: URL")
    if "," not in url:
        raise InputError("image_url: a data: URL has a comma before its content; send data:image/png;base64,...")
    return read_base64(url.partition(",")[2])


def read_base64(text: str) -> Image.Image:
    """See :func:`read_data_url`."""
    try:
        # with line breaks, in the alphabet of addresses, without filling: programs write all of these
        plain = "".join(text.split()).translate(URL_SAFE).rstrip("=")
        data = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError as error:
        raise InputError("image_url: what follows the comma is no base64; encode the picture's file anew") from error
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(f"image_url: more than {MOST_PIXELS // 1_000_000} million pixels; scale it down")
            image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
            upright = ImageOps.exif_transpose(image).convert("RGB")
            upright.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            return upright
    except Image.DecompressionBombError as error:
        raise InputError(f"image_url: more than {MOST_PIXELS // 1_000_000} million pixels; scale it down") from error
    except (OSError, ValueError, SyntaxError) as error:
        kinds = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise InputError(f"image_url: no picture that can be read ({type(error).__name__}); send {kinds}") from error


def png(image: Image.Image) -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def base64_png(image: Image.Image) -> str:
    """A PNG file as text."""
    return base64.b64encode(png(image)).decode()


def picture_url(image: Image.Image) -> dict[str, Any]:
    """A picture in the shape in which messages carry one."""
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64_png(image)}"}}
