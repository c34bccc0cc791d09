"""From the name of a writer to the one that writes. Torch is loaded only for writers that need a base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from charforge.character import Character, load_picture
from charforge.errors import InputError
from charforge.expand.asking import Request
from charforge.expand.authored import planned_requests
from charforge.expand.endpoint import Endpoint, EndpointSettings
from charforge.expand.expansion import Author
from charforge.expand.holdout import hold_out
from charforge.expand.kept import Kept
from charforge.expand.looking import Sight, confirm_in_words
from charforge.expand.sight import probe_pictures
from charforge.room import tokens_of
from charforge.settings import Settings


@dataclass(frozen=True)
class Planned:
    """What a writer will be asked: requests, and tokens that it reads and at most writes. Second tries come on top."""

    requests: int
    tokens_in: int
    tokens_out: int

    def line(self) -> str:
        """For a person."""
        return f"{self.requests} requests, about {self.tokens_in} tokens to read and at most {self.tokens_out} to write"


def planned(character: Character, settings: Settings) -> Planned:
    """What ``settings.expand.writer`` will be asked; nothing for the template."""
    if settings.expand.writer == "template":
        return Planned(0, 0, 0)
    held = hold_out(character, settings.seed)
    return planned_of(planned_requests(character, held, settings.expand, settings.seed))


def planned_of(requests: list[Request]) -> Planned:
    """The sums over ``requests``."""
    read = sum(tokens_of(text) for request in requests for _, text in request.messages)
    return Planned(len(requests), read, sum(request.max_tokens for request in requests))


def author_of(
    character: Character, settings: Settings, kept_file: Path, on_done: Callable[[int, int], None], device: str = "cpu"
) -> Author | None:
    """The language model that ``settings.expand.writer`` names, None for the template.

    What it writes is kept in ``kept_file`` at once: an interrupted expansion goes on. Raises InputError for settings
    that lack something, and what ``load_base`` raises.
    """
    if settings.expand.writer == "template":
        return None
    from charforge.bases.base import load_base
    from charforge.expand.base_sight import base_sight
    from charforge.expand.self_writer import SelfWriter, likelihood_judge

    asked = settings.expand
    if asked.writer == "self":
        base = load_base(settings.base, settings.quantize, device)
        shown = {picture.name: load_picture(picture.path) for picture in character.pictures} | probe_pictures()
        pictures = {name: base.model.prepare_picture(image) for name, image in shown.items()}
        kept = Kept(kept_file, f"self {base.content_hash} {settings.seed}")
        writer = SelfWriter(base, kept, pictures, settings.seed, on_done)
        return Author("self", writer, asked, likelihood_judge(base), base_sight(base, pictures))
    if not asked.url.startswith(("http://", "https://")):
        raise InputError(
            "the writer endpoint needs the URL of an OpenAI-compatible server: --url http://localhost:8000/v1, or "
            'expand.url = "..." in charforge.toml'
        )
    if not asked.model:
        raise InputError("the writer endpoint needs --model, or expand.model: the name of the model behind the URL")
    kept = Kept(kept_file, f"endpoint {asked.url} {asked.model} {EndpointSettings.temperature} {settings.seed}")
    endpoint = Endpoint(
        EndpointSettings(
            asked.url,
            asked.model,
            requests_per_minute=asked.requests_per_minute,
            price_in=asked.price_in,
            price_out=asked.price_out,
        ),
        kept,
        {picture.name: picture.path for picture in character.pictures},
        settings.seed,
        on_done,
    )
    judge = likelihood_judge(load_base(settings.base, settings.quantize, device))
    return Author("endpoint", endpoint, asked, judge, Sight(confirm_in_words(endpoint)))
