"""Where a base was published: what an adapter says about the base that it needs. No torch, no network."""

from __future__ import annotations

from dataclasses import dataclass

from charforge.bases.cache import base_folder
from charforge.bases.hub import BAGEL
from charforge.bases.where import pulled, read_source, registered

MINI_LANGUAGE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""``mini`` is published inside charforge; this is the model whose language weights it carries."""


@dataclass(frozen=True)
class Origin:
    """A repository of the model hub (OWNER/NAME) and the commit in it, as far as they are known."""

    repository: str | None = None
    revision: str | None = None


def origin_of(name: str) -> Origin:
    """What a pull of the base wrote down, or what is known of its name; a copy that somebody registered is nobody's."""
    folder = base_folder(name) if pulled(name) else registered().get(name)
    source = read_source(folder) if folder is not None else None
    if source is not None and isinstance(source.get("repository"), str):
        return Origin(source["repository"], source["commit"])
    return Origin(BAGEL.repository, BAGEL.commit) if name == BAGEL.name and folder is None else Origin()
