"""``charforge.json``: what is inside a bundle, from what it was made, and the hash of every other member."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from charforge.character import Character
from charforge.room import SHORT_CONTEXT, Room
from charforge.settings import PictureSettings

FORMAT_VERSION = 2
"""Version 2 took the adapter out of the card's ``data.assets`` (RisuAI refuses a card with an asset above 50 MiB) and
says where a base was published and how pictures are drawn. charforge/bundle/versions.py reads the older ones."""
MANIFEST = "charforge.json"
CARD = "card.json"
README = "README.md"
AVATAR = "assets/icon/images/main.png"
ADAPTER = "assets/x_charforge/ai/adapter_model.safetensors"
ADAPTER_CONFIG = "assets/x_charforge/ai/adapter_config.json"
SPRITES = "assets/emotion/images/"
"""Where a bundle may have pictures of expressions, one PNG each, named by the expression."""
MEMBERS = {
    MANIFEST: "What is inside, what it was made from and how, and the SHA-256 of every other member. charforge reads "
    "this.",
    CARD: "The character card (Character Card V3 with all fields of V2): what any front end reads. It has no pictures "
    "that were trained on.",
    ADAPTER: "The weights of the LoRA adapter, as PEFT names them.",
    ADAPTER_CONFIG: "The adapter's configuration, as PEFT writes it: rank, alpha, the layers it belongs to.",
    AVATAR: "A picture of the character, drawn by the trained model or, where that failed, its initial.",
    README: "What this file is and the command that opens it, for a person who unpacks it.",
}
"""The members that every bundle has, and what each is."""
REQUIRED = tuple(MEMBERS)


def sprites_among(members: Iterable[str]) -> dict[str, str]:
    """The pictures of expressions among names of members, by expression."""
    found = sorted(name for name in members if name.startswith(SPRITES) and name.endswith(".png"))
    return {name.removeprefix(SPRITES).removesuffix(".png"): name for name in found}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseInfo(_Strict):
    """The base it was trained on; an adapter fits that one and no other."""

    name: str = Field(description="The base's name here, for example mini or bagel, or its path.")
    content_hash: str = Field(
        description="A hash over all its weight files: it tells two bases of the same name apart."
    )
    repository: str | None = Field(
        None, description="Where it was published, as OWNER/NAME on the model hub; null where that is not known."
    )
    revision: str | None = Field(None, description="The commit of that repository; null where that is not known.")
    precision: str = Field(description="What its layers were held in during training: bfloat16, float32, int8 or nf4.")


class AdapterInfo(_Strict):
    """Size of the LoRA adapter, and the lowest layer of the understanding expert that carries it."""

    rank: int = Field(ge=1, le=4096, description="Rank of the adapter's matrices.")
    alpha: int = Field(ge=1, description="Its strength; what it adds is multiplied by alpha / rank.")
    # bundles that are older than the setting have it in all layers
    first_layer: int = Field(
        0, ge=0, le=4096,
        description="The lowest layer of the reading expert that carries it. The drawing expert has it in all layers.",
    )  # fmt: skip
    trained_rank: int | None = Field(
        None, ge=1, le=4096,
        description="The rank it was trained and measured at, where it was made smaller afterwards; else null.",
    )  # fmt: skip


class RoomInfo(_Strict):
    """Tokens that the parts of its prompts may take, as in training (charforge/room.py)."""

    persona: int = Field(SHORT_CONTEXT.persona, ge=1, description="Who it is, in the system prompt.")
    voice: int = Field(SHORT_CONTEXT.voice, ge=1, description="How it talks, where the persona had to be cut.")
    plan: int = Field(SHORT_CONTEXT.plan, ge=1, description="What the plan of a picture says.")
    quote: int = Field(SHORT_CONTEXT.quote, ge=1, description="A reply's words in the prompt of its picture.")


class CharacterInfo(_Strict):
    """What the prompts are built from, word for word as in training."""

    name: str = Field(min_length=1, description="The character's name.")
    class_noun: str = Field(description='What it is, for example "voxel person". It stands beside the name in prompts.')
    persona: str = Field(description="Who the character is.")
    voice: str = Field(description="How it speaks.")
    appearance: str = Field(description="What is the same in all its pictures.")
    opening: str = Field(description="The first thing it says in a conversation; may be empty.")
    author: str = Field(description="Who made the character; may be empty.")
    license: str = Field(description="Under which terms; may be empty.")
    facts: tuple[str, ...] = Field(description="What it knows about itself and about others, one sentence each.")
    about: str = Field("", description="Everything that its card says of it, for bases that can read it; may be empty.")
    language: str = Field("en", description="The language that it speaks, as an ISO 639-1 code; empty: not known.")
    # bundles that are older than the setting have the room of the small base
    room: RoomInfo = Field(RoomInfo(), description="How much of this its prompts hold.")

    @classmethod
    def from_character(cls, character: Character) -> Self:
        """The character without its pictures and dialogues. What it knows about others stands among its facts."""
        values = {name: getattr(character, name) for name in cls.model_fields}
        values["room"] = RoomInfo(**asdict(character.room))
        return cls(**{**values, "facts": (*character.facts, *(item.text for item in character.lore))})


class ChatInfo(_Strict):
    """How it speaks unless told otherwise."""

    # a bundle is anybody's: no numbers that end in none, and no reply that never ends
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    temperature: float = Field(
        ge=0, le=100, description="How freely words are chosen, as the setting chat.temperature."
    )
    top_p: float = Field(ge=0, le=1, description="As the setting chat.top_p.")
    # bundles that are older than the setting were made without
    repetition_penalty: float = Field(1.0, gt=0, le=100, description="As the setting chat.repetition_penalty.")
    max_tokens: int = Field(
        ge=1, le=1 << 20, description="The longest reply in tokens, as the setting chat.max_tokens."
    )


class TrainingInfo(_Strict):
    """How it was trained."""

    seed: int = Field(description="The source of all its randomness.")
    steps: int = Field(description="Optimiser steps of the first stage.")
    best_step: int = Field(description="The step of the first stage whose adapter was kept.")
    pairs: dict[str, int] = Field(description="How many training pairs of each task there were.")
    settings: dict[str, Any] = Field(description="All settings of the run, section by section.")


class Manifest(_Strict):
    """The whole of ``charforge.json``."""

    format_version: int = Field(
        FORMAT_VERSION, description="Version of this format. Older ones are read, newer ones refused."
    )
    charforge_version: str = Field(description="The charforge that wrote it.")
    created: str = Field(description="The day on which it was written.")
    base: BaseInfo = Field(description="The base it was trained on. An adapter fits that one and no other.")
    adapter: AdapterInfo = Field(description="Size and place of the adapter.")
    character: CharacterInfo = Field(description="What prompts are built from, word for word as in training.")
    chat: ChatInfo = Field(description="How the character speaks unless the command says otherwise.")
    training: TrainingInfo = Field(description="How it was trained.")
    drawing: PictureSettings = Field(
        PictureSettings(), description="The sizes of pictures that it was trained at, as the settings of [pictures]."
    )
    sampling: dict[str, Any] = Field(
        {}, description="How its base draws unless told otherwise: steps, guidance, size; names as the base has them."
    )
    evaluation: dict[str, float | None] = Field(
        description="What was measured after training, by name; null where there was nothing to measure."
    )
    members: dict[str, str] = Field({}, description="SHA-256 of every other member, by the member's name.")

    def to_character(self) -> Character:
        """The character as prompts need it."""
        values = self.character.model_dump()
        return Character(pictures=(), dialogues=(), folder=Path(), **{**values, "room": Room(**values["room"])})
