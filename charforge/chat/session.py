"""A character on a base, ready to speak and to draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from charforge import grammar
from charforge.adapter.load import load_adapter
from charforge.bases.base import Base, load_base, use_picture_sizes
from charforge.bases.hashes import other_weights
from charforge.bundle import Bundle, read_bundle
from charforge.bundle.read import plain_card
from charforge.character import Character
from charforge.character.from_card import card_character
from charforge.chat.lore import Lorebook, card_lorebook
from charforge.device import default_device
from charforge.errors import InputError
from charforge.files import temporary_folder
from charforge.judges.choosing import Taste
from charforge.low_rank import acting, adapter_names
from charforge.settings import ChatSettings


@dataclass(frozen=True)
class Session:
    """One character on a loaded base, which others may be on.

    ``adapter`` is the name of the character's adapter on the base, ``scale`` a factor on its strength; None speaks and
    draws without any. ``styles`` are adapters that act beside it, each with its factor.
    """

    base: Base
    character: Character
    settings: ChatSettings
    adapter: str | None = None
    lore: Lorebook = field(default_factory=Lorebook)
    scale: float = 1.0
    styles: tuple[tuple[str, float], ...] = ()
    taste: Taste | None = None
    """How the best of several drawings is chosen; None: one is drawn."""
    bare: bool = False
    """The base as it is: it is told nothing of a character, and draws what it is asked for."""

    def acts(self) -> AbstractContextManager[None]:
        """Inside the block this character's adapter and its styles act, and no others."""
        own = ((self.adapter, self.scale),) if self.adapter else ()
        return acting(*own, *self.styles)

    @contextmanager
    def computes(self) -> Iterator[None]:
        """Inside the block this character acts, in the precision in which the base computes."""
        with self.acts(), self.base.model.autocast():
            yield

    def prompt(self, user: str = "") -> str:
        """What the character is told about itself, and about the user: "a lighthouse keeper from the north"."""
        if self.bare:
            return f"You are talking to {user}." if user else ""
        told = grammar.system_prompt(self.character)
        return f"{told} You are talking to {user}." if user else told

    def picture_prompt(self, prompt: str) -> str:
        """``prompt`` with the character's name and class, where they are missing."""
        return prompt if self.bare else grammar.caption_with_name(self.character, prompt)


@dataclass(frozen=True)
class Style:
    """Another bundle whose adapter acts beside a character's, and the factor on its strength."""

    bundle: Path
    scale: float


def open_character(
    bundle: Path, adapter: bool = True, device: str | None = None, beside: Session | None = None,
    scale: float = 1.0, styles: Sequence[Style] = (),
) -> Session:  # fmt: skip
    """Verify a bundle, load its base and put its adapter in (or leave it out, for comparison).

    ``beside`` another character its base is used: one set of weights, an adapter each. ``scale`` is a factor on the
    strength of the character's adapter; the adapters of ``styles`` act beside it, as they are trained on the same base.

    Without ``adapter`` an ordinary character card will do too: it speaks through the base ``mini`` as it is. Raises
    InputError when the bundle is damaged or was trained on another base than the one at hand.
    """
    card = plain_card(bundle) if not adapter and bundle.is_file() else None
    if card is not None:
        character = card_character(card, bundle.name)
        base = load_base("mini", None, device or default_device())
        lore = card_lorebook(card.document, character.name)
        return Session(base, character, ChatSettings(), lore=lore)
    opened = read_bundle(bundle)
    manifest = opened.manifest
    quantize = manifest.base.precision if manifest.base.precision in ("int8", "nf4") else None
    base = beside.base if beside is not None else load_base(manifest.base.name, quantize, device or default_device())
    name = _put_in(base, opened) if adapter else None
    beside_it = tuple((_put_in(base, read_bundle(style.bundle)), style.scale) for style in styles)
    if beside is None:
        use_picture_sizes(base, manifest.drawing)
        base.model.pack_for_use()
    character, settings = manifest.to_character(), ChatSettings(**manifest.chat.model_dump())
    lore = card_lorebook(opened.card, character.name)
    return Session(base, character, settings, name, lore, scale, beside_it)


def _put_in(base: Base, bundle: Bundle) -> str:
    """Put the adapter of ``bundle`` beside those that are on ``base``; the name it has there."""
    _check_base(base, bundle)
    # not the character's own name: two may have the same
    name = f"adapter {len(adapter_names(base.model.network)) + 1}"
    with temporary_folder() as scratch:
        bundle.extract_adapter(scratch)
        load_adapter(base.model, scratch, base.model.dtype, name)
    return name


def _check_base(base: Base, bundle: Bundle) -> None:
    trained_on = bundle.manifest.base
    if base.content_hash != trained_on.content_hash:
        told = other_weights(trained_on.name, trained_on.content_hash, base.content_hash)
        raise InputError(f"{bundle.path} {told}")
