"""From the name of a writer to the one that writes. Torch is loaded only for writers that need a base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from charforge.character import Character, load_picture
from charforge.errors import InputError
from charforge.expand.endpoint import Endpoint, EndpointSettings
from charforge.expand.expansion import Author
from charforge.expand.kept import Kept

INVENTING_PARAMETERS = 1_000_000_000
"""A base of this size is asked for conversations of its own."""


def self_author(
    character: Character, base_name: str, kept_file: Path, seed: int, on_done: Callable[[int, int], None],
    device: str = "cpu",
) -> Author:  # fmt: skip
    """The base writes, and judges what it wrote. Raises InputError and MachineError as ``load_base`` does."""
    from charforge.bases.base import load_base
    from charforge.expand.self_writer import SelfWriter, likelihood_judge

    base = load_base(base_name, device=device)
    described = [picture for picture in character.pictures if picture.caption is None]
    pictures = {picture.name: base.model.prepare_picture(load_picture(picture.path)) for picture in described}
    kept = Kept(kept_file, f"self {base.content_hash} {seed}")
    size = sum(parameter.numel() for parameter in base.model.network.parameters())
    writer = SelfWriter(base, kept, pictures, seed, on_done)
    return Author("self", writer, size >= INVENTING_PARAMETERS, likelihood_judge(base))


def endpoint_author(
    character: Character, settings: EndpointSettings, base_name: str, kept_file: Path, seed: int,
    on_done: Callable[[int, int], None], device: str = "cpu",
) -> Author:  # fmt: skip
    """A model behind a URL writes, the base judges. Raises InputError when ``settings`` lack a URL or a model."""
    if not settings.url.startswith(("http://", "https://")):
        raise InputError("--writer endpoint needs --url, e.g. --url http://localhost:8000/v1")
    if not settings.model:
        raise InputError("--writer endpoint needs --model, the name of the model behind the URL")
    from charforge.bases.base import load_base
    from charforge.expand.self_writer import likelihood_judge

    kept = Kept(kept_file, f"endpoint {settings.url} {settings.model} {settings.temperature} {seed}")
    pictures = {picture.name: picture.path for picture in character.pictures}
    writer = Endpoint(settings, kept, pictures, seed, on_done)
    return Author("endpoint", writer, True, likelihood_judge(load_base(base_name, device=device)))
