"""A character on a base, ready to speak and to draw."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from charforge import grammar
from charforge.adapter.load import load_adapter
from charforge.bases.base import Base, load_base, use_picture_sizes
from charforge.bases.drawing import draw_many
from charforge.bundle import read_bundle
from charforge.bundle.read import plain_card
from charforge.character import Character
from charforge.character.from_card import card_character
from charforge.chat.lore import Lorebook, card_lorebook
from charforge.device import default_device
from charforge.errors import InputError
from charforge.files import write_atomic_with
from charforge.low_rank import acting, adapter_names
from charforge.pixels import contact_sheet
from charforge.settings import ChatSettings


@dataclass(frozen=True)
class Reply:
    """What the character said, the plan of its picture and the picture, if it wanted to send one."""

    text: str
    plan: str | None
    image: Image.Image | None


@dataclass(frozen=True)
class Session:
    """One character on a loaded base, which others may be on.

    ``adapter`` is the name of the character's adapter on the base; None speaks and draws without any.
    """

    base: Base
    character: Character
    settings: ChatSettings
    adapter: str | None = None
    lore: Lorebook = field(default_factory=Lorebook)

    def acts(self) -> AbstractContextManager[None]:
        """Inside the block this character's adapter acts, and no other."""
        return acting(self.adapter) if self.adapter else acting()

    def imagine(self, prompt: str, seed: int, count: int = 1, exactly: bool = False) -> list[Image.Image]:
        """Pictures of ``prompt``; the character's name and class are added unless ``exactly``."""
        full = prompt if exactly else grammar.caption_with_name(self.character, prompt)
        with self.acts():
            return draw_many(self.base.model, full, seed, count)

    def imagine_file(self, prompt: str, seed: int, count: int, out: Path, exactly: bool) -> None:
        """One picture, or a sheet of several, as a PNG file."""
        if out.suffix.lower() != ".png":
            raise InputError(f"--out {out}: pictures are written as PNG; name a file that ends in .png")
        pictures = self.imagine(prompt, seed, count, exactly)
        sheet = pictures[0] if count == 1 else contact_sheet(pictures, min(4, count), pictures[0].width)
        write_atomic_with(out, lambda path: sheet.save(path, "PNG"))


def open_character(
    bundle: Path, adapter: bool = True, device: str | None = None, beside: Session | None = None
) -> Session:
    """Verify a bundle, load its base and put its adapter in (or leave it out, for comparison).

    ``beside`` another character its base is used: one set of weights, an adapter each.

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
    if base.content_hash != manifest.base.content_hash:
        raise InputError(
            f"{bundle} was trained on {manifest.base.name} {manifest.base.content_hash[:12]}, here is "
            f"{base.content_hash[:12]}: install the charforge version it was made with, or train it again"
        )
    name = None
    if adapter:
        # not the character's own name: two may have the same
        name = f"adapter {len(adapter_names(base.model.network)) + 1}"
        with tempfile.TemporaryDirectory() as scratch:
            opened.extract_adapter(Path(scratch))
            load_adapter(base.model, Path(scratch), base.model.dtype, name)
    if beside is None:
        use_picture_sizes(base, manifest.drawing)
        base.model.pack_for_use()
    character, settings = manifest.to_character(), ChatSettings(**manifest.chat.model_dump())
    return Session(base, character, settings, name, card_lorebook(opened.card, character.name))
