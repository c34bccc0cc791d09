"""Presets: what a run is made of. Unknown keys are errors; the resolved copy is saved with the run."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from charforge.errors import InputError

Checked = TypeVar("Checked", bound=BaseModel)
Item = TypeVar("Item")
OptimizerKind = Literal["adamw", "adamw8bit", "paged_adamw8bit"]

NEUTRAL = "where, how fast and how visibly, not what"
Neutral = Annotated[Item, NEUTRAL]
"""A setting that does not decide the result: a run goes on when it was changed. It changes nothing at all, or, where
products are computed in other batches or on another device, the last bits that rounding leaves open anyway."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdapterSettings(_Strict):
    """Size and place of the LoRA adapter.

    ``frozen_share`` of the understanding expert's layers, the lowest, carry none: what they make of a text never
    changes and is computed once a run.
    """

    rank: int = Field(16, ge=1, le=512)
    alpha: int = Field(32, ge=1)
    frozen_share: float = Field(0.0, ge=0, lt=1)

    def first_layer(self, layers: int) -> int:
        """The lowest layer that carries the adapter, of ``layers``; one at least does."""
        return min(layers - 1, round(layers * self.frozen_share))


class SftSettings(_Strict):
    """Unified-SFT; ``presets/mini.toml`` says what each value does."""

    steps: int = Field(200, ge=1)
    study_share: float = Field(0.0, ge=0, le=0.9)
    study_knowledge: int = Field(12, ge=0)
    study_looks: int = Field(3, ge=0)
    study_requests: int = Field(4, ge=0)
    study_rate: float = Field(3.0, gt=0)
    dialogues: int = Field(3, ge=0)
    requests: int = Field(1, ge=0)
    knowledge: int = Field(1, ge=0)
    looks: int = Field(1, ge=0)
    pictures: int = Field(4, ge=0)
    replay_pictures: int = Field(4, ge=0)
    replay_texts: int = Field(1, ge=0)
    replay_looks: int = Field(0, ge=0)
    draws: int = Field(1, ge=1)
    text_learning_rate: float = Field(1e-4, gt=0)
    picture_learning_rate: float = Field(1e-4, gt=0)
    warmup: int = Field(10, ge=0)
    timestep_shift: float = Field(3.0, gt=0)
    caption_dropout: float = Field(0.1, ge=0, le=1)
    ce_weight: float = Field(0.25, ge=0)
    mse_weight: float = Field(1.0, ge=0)
    clip: float = Field(1.0, gt=0)
    context_gradients: bool = True
    evaluate_every: int = Field(50, ge=1)
    preview_every: Neutral[int] = Field(100, ge=1)
    checkpoint_every: Neutral[int] = Field(25, ge=1)


class GrpoSettings(_Strict):
    """Character-GRPO; ``presets/mini.toml`` says what each value does."""

    algorithm: Literal["grpo", "nft"] = "grpo"
    iterations: int = Field(30, ge=0)
    prompts: int = Field(6, ge=1)
    # fewer than four siblings say nothing about which of them is good
    group: int = Field(8, ge=4)
    updates: int = Field(2, ge=1)
    steps: int = Field(14, ge=2)
    timestep_shift: float = Field(3.0, gt=0)
    noise: Literal["cps", "sde"] = "cps"
    noise_level: float = Field(0.8, gt=0)
    window: int = Field(2, ge=1)
    window_last_start: int = Field(5, ge=0)
    learning_rate: float = Field(3e-4, gt=0)
    warmup: int = Field(6, ge=0)
    clip_range: float = Field(1e-4, gt=0)
    importance_cap: float = Field(0.0, ge=0)
    advantage_clip: float = Field(5.0, gt=0)
    gradient_clip: float = Field(1.0, gt=0)
    micro_batch: Neutral[int] = Field(24, ge=1)
    anchor: float = Field(0.2, ge=0)
    anchor_pictures: int = Field(8, ge=0)
    guard: float = Field(0.1, gt=0)
    evaluate_every: int = Field(10, ge=1)
    held_out_pictures: int = Field(12, ge=1)
    patience: int = Field(2, ge=1)
    preview_every: Neutral[int] = Field(10, ge=1)
    checkpoint_every: Neutral[int] = Field(5, ge=1)
    nft_beta: float = Field(1.0, gt=0)
    nft_times: int = Field(2, ge=1)
    nft_decay: float = Field(0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _window_ends_before_the_picture(self) -> Self:
        if self.window_last_start + self.window >= self.steps:
            raise ValueError(f"window_last_start + window must be less than steps ({self.steps})")
        return self


class RewardSettings(_Strict):
    """What a drawn picture is paid for. ``published`` takes the paper's reward as it stands instead of the weights."""

    published: bool = False
    encoder: str = "efficientnet-lite0"
    clip: str = ""
    scene: float = Field(0.75, ge=0)
    clip_text: float = Field(0.0, ge=0)
    on_cpu: Neutral[bool] = False
    identity: float = Field(0.15, ge=0)
    copying: float = Field(0.15, ge=0)
    variety: float = Field(0.10, ge=0)


class PictureSettings(_Strict):
    """Sizes in pixels. None: as the base has it."""

    longest_side: int | None = Field(None, ge=16, le=4096)
    shortest_side: int | None = Field(None, ge=16, le=4096)
    draw_side: int | None = Field(None, ge=16, le=4096)
    draw_steps: int | None = Field(None, ge=2, le=500)


class MemorySettings(_Strict):
    """What is traded for memory; ``presets/bagel-24gb.toml`` says what each value does."""

    micro_batch: Neutral[int] = Field(64, ge=1)
    checkpoint_layers: Neutral[bool] = False
    logits_chunk: Neutral[int] = Field(1024, ge=1)
    park_encoders: Neutral[bool] = False
    optimizer: OptimizerKind = "adamw"


class ExpandSettings(_Strict):
    """What training pairs are made of a character, and by whom. Budgets are what a language model is asked for: what it
    writes is checked, and fewer are kept.
    """

    writer: Literal["template", "self", "endpoint"] = Field(
        "template",
        description="who words the pairs: rules alone; also the base, before it is trained; also a model behind a URL",
    )
    dialogues: int = Field(200, ge=0, le=5000, description="new conversations; 0 asks for none, and for no scenes")
    knowledge: int = Field(100, ge=0, le=5000, description="questions about sentences of the profile")
    looks_per_picture: int = Field(20, ge=0, le=500, description="questions about each picture that has a caption")
    url: str = Field("", description="endpoint: OpenAI-compatible, ends in /v1; the key is $CHARFORGE_API_KEY")
    model: str = Field("", description="endpoint: the name of the model behind the URL")
    requests_per_minute: Neutral[float] = Field(60.0, gt=0, description="endpoint: not faster than this")
    price_in: Neutral[float] = Field(
        0.0, ge=0, description="endpoint: price of a million tokens read, to tell the cost"
    )
    price_out: Neutral[float] = Field(0.0, ge=0, description="endpoint: price of a million tokens written")


class PromptSettings(_Strict):
    """Room in the prompts, in tokens; left out: what suits the base (charforge/room.py). What fits is the same in
    training, chat and evaluation.
    """

    persona: int | None = Field(None, ge=8, description="who it is, in the system prompt; a longer one is cut")
    voice: int | None = Field(None, ge=8, description="how it talks, where the persona had to be cut")
    plan: int | None = Field(None, ge=16, description="what the plan of a picture says")
    quote: int | None = Field(None, ge=8, description="of a reply, in the prompt that its picture is drawn from")


class ChatSettings(_Strict):
    """How the character speaks."""

    temperature: float = Field(0.7, ge=0)
    top_p: float = Field(0.9, gt=0, le=1)
    repetition_penalty: float = Field(1.15, ge=1, le=2)
    max_tokens: int = Field(120, ge=1)


class Settings(_Strict):
    """Everything that decides the result of a run beside the folder itself."""

    base: str = "mini"
    quantize: str | None = None
    seed: int = 0
    adapter: AdapterSettings = AdapterSettings()
    sft: SftSettings = SftSettings()
    grpo: GrpoSettings = GrpoSettings()
    reward: RewardSettings = RewardSettings()
    pictures: PictureSettings = PictureSettings()
    memory: MemorySettings = MemorySettings()
    expand: ExpandSettings = ExpandSettings()
    prompt: PromptSettings = PromptSettings()
    chat: ChatSettings = ChatSettings()


def read_settings(preset: Path, folder_overrides: Path | None, assignments: list[str], **explicit: object) -> Settings:
    """Preset file, then the character folder's ``charforge.toml``, then ``key=value`` assignments, then options.

    Raises InputError naming the file or the assignment that is wrong.
    """
    data = _read_toml(preset)
    _merge(data, given_settings(folder_overrides, assignments, **explicit))
    return checked(Settings, data, f"See {preset.name} for the settings there are.")


def given_settings(folder_overrides: Path | None, assignments: list[str], **explicit: object) -> dict[str, Any]:
    """What the user gave beside the preset, in the order of :func:`read_settings`, not yet checked."""
    data: dict[str, Any] = {}
    if folder_overrides is not None and os.path.lexists(folder_overrides):
        _merge(data, _read_toml(folder_overrides))
    _merge(data, read_assignments(assignments))
    _merge(data, {key: value for key, value in explicit.items() if value is not None})
    return data


def deciding(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """The settings that decide the result, by their dotted names: all but those marked :data:`Neutral`."""
    values: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            values |= deciding(value, f"{prefix}{name}.")
        elif NEUTRAL not in field.metadata:
            values[prefix + name] = value
    return values


def read_assignments(assignments: list[str]) -> dict[str, Any]:
    """``key=value`` with TOML values and dotted keys as one nested dictionary; later ones win."""
    data: dict[str, Any] = {}
    for assignment in assignments:
        _merge(data, _parse_assignment(assignment))
    return data


def checked(model: type[Checked], data: dict[str, Any], remedy: str) -> Checked:
    """``data`` as ``model``; raises InputError that names the first wrong setting and ends with ``remedy``."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"setting {key}: {first['msg'].lower()}. {remedy}") from error


def settings_toml(settings: Settings) -> str:
    """The resolved settings as TOML."""
    # TOML has no null: what is left out is read as its default, and that is None wherever None is allowed
    return tomli_w.dumps(settings.model_dump(exclude_none=True))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a plain file: replace it by one, or remove it")
        return tomllib.loads(path.read_text("utf-8-sig"))
    except RecursionError as error:
        raise InputError(f"{path} is not valid TOML: it is nested too deep") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save the file as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): make the file readable for you") from error


def _parse_assignment(assignment: str) -> dict[str, Any]:
    key, found, value = assignment.partition("=")
    if not found or not key.strip():
        raise InputError(f"--set {assignment}: write it as key=value, for example sft.steps=300")
    try:
        parsed: object = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = value.strip()
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    assert isinstance(parsed, dict)
    return parsed


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
