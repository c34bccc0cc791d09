"""``charforge.json``: what is inside a bundle, from what it was made, and the hash of every other member."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from charforge.character import Character
from charforge.room import SHORT_CONTEXT, Room
from charforge.settings import PictureSettings

FORMAT_VERSION = 1
MANIFEST = "charforge.json"
CARD = "card.json"
README = "README.md"
AVATAR = "assets/icon/images/main.png"
ADAPTER = "assets/x_charforge/ai/adapter_model.safetensors"
ADAPTER_CONFIG = "assets/x_charforge/ai/adapter_config.json"
REQUIRED = (MANIFEST, CARD, README, AVATAR, ADAPTER, ADAPTER_CONFIG)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseInfo(_Strict):
    """The base it was trained on; an adapter fits that one and no other."""

    name: str
    content_hash: str
    precision: str


class AdapterInfo(_Strict):
    """Size of the LoRA adapter, and the lowest layer of the understanding expert that carries it."""

    rank: int = Field(ge=1, le=4096)
    alpha: int = Field(ge=1)
    # bundles that are older than the setting have it in all layers
    first_layer: int = Field(0, ge=0, le=4096)


class RoomInfo(_Strict):
    """Tokens that the parts of its prompts may take, as in training (charforge/room.py)."""

    persona: int = Field(SHORT_CONTEXT.persona, ge=1)
    voice: int = Field(SHORT_CONTEXT.voice, ge=1)
    plan: int = Field(SHORT_CONTEXT.plan, ge=1)
    quote: int = Field(SHORT_CONTEXT.quote, ge=1)


class CharacterInfo(_Strict):
    """What the prompts are built from, word for word as in training."""

    name: str = Field(min_length=1)
    class_noun: str
    persona: str
    voice: str
    appearance: str
    opening: str
    author: str
    license: str
    facts: tuple[str, ...]
    about: str = ""
    language: str = "en"
    # bundles that are older than the setting have the room of the small base
    room: RoomInfo = RoomInfo()

    @classmethod
    def from_character(cls, character: Character) -> Self:
        """The character without its pictures and dialogues. What it knows about others stands among its facts."""
        values = {name: getattr(character, name) for name in cls.model_fields}
        values["room"] = RoomInfo(**asdict(character.room))
        return cls(**{**values, "facts": (*character.facts, *(item.text for item in character.lore))})


class ChatInfo(_Strict):
    """How it speaks unless told otherwise."""

    temperature: float
    top_p: float
    # bundles that are older than the setting were made without
    repetition_penalty: float = 1.0
    max_tokens: int


class TrainingInfo(_Strict):
    """How it was trained."""

    seed: int
    steps: int
    best_step: int
    pairs: dict[str, int]
    settings: dict[str, Any]


class Manifest(_Strict):
    """The whole of ``charforge.json``. ``drawing``: the sizes it was trained at.

    ``members``: SHA-256 of every other member of the zip.
    """

    format_version: int = FORMAT_VERSION
    charforge_version: str
    created: str
    base: BaseInfo
    adapter: AdapterInfo
    character: CharacterInfo
    chat: ChatInfo
    training: TrainingInfo
    drawing: PictureSettings = PictureSettings()
    evaluation: dict[str, float | None]
    members: dict[str, str] = {}

    def to_character(self) -> Character:
        """The character as prompts need it."""
        values = self.character.model_dump()
        return Character(pictures=(), dialogues=(), folder=Path(), **{**values, "room": Room(**values["room"])})
