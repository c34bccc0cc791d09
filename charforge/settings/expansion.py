"""Settings of the training pairs: who words them and how many, and how much of the character the prompts hold."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charforge.settings.section import Neutral, Section


class ExpandSettings(Section):
    """What training pairs are made of a character, and by whom.

    Budgets are what a language model is asked for: what it writes is checked, and fewer are kept.
    """

    writer: Literal["template", "self", "endpoint"] = Field(
        "template",
        description='Who words the pairs. "template": rules alone. "self": also the base, before it is trained. '
        '"endpoint": also a model behind `url`. A small base such as mini cannot write.',
    )
    dialogues: int = Field(
        200, ge=0, le=5000,
        description="New conversations that a language model is asked for, and with them requests for pictures and "
        "new scenes in proportion. 0 asks for none.",
    )  # fmt: skip
    knowledge: int = Field(
        100,
        ge=0,
        le=5000,
        description="Questions about sentences of the profile that a language model is asked for.",
    )
    looks_per_picture: int = Field(
        20,
        ge=0,
        le=500,
        description="Questions about each picture with a caption that a language model is asked for.",
    )
    url: str = Field(
        "",
        description='For the writer "endpoint": an OpenAI-compatible server; ends in /v1. The key comes from the '
        "environment variable CHARFORGE_API_KEY.",
    )
    model: str = Field("", description='For the writer "endpoint": the name of the model behind the URL.')
    requests_per_minute: Neutral[float] = Field(
        60.0, gt=0, description='For the writer "endpoint": it is not asked faster than this.'
    )
    price_in: Neutral[float] = Field(
        0.0, ge=0, description="Price of a million tokens that the endpoint reads, to tell the cost; 0: not told."
    )
    price_out: Neutral[float] = Field(
        0.0, ge=0, description="Price of a million tokens that the endpoint writes, to tell the cost; 0: not told."
    )


class PromptSettings(Section):
    """Room in the prompts, in tokens. What fits is the same in training, chat and evaluation.

    A setting without a value suits the base: mini reads little with every sample, others a whole character card.
    """

    persona: int | None = Field(
        None,
        ge=8,
        description="Tokens of who the character is, in the system prompt. A longer text is cut at a sentence.",
    )
    voice: int | None = Field(None, ge=8, description="Tokens of how it talks, where the persona had to be cut to fit.")
    plan: int | None = Field(None, ge=16, description="Tokens of what the plan of a picture says.")
    quote: int | None = Field(
        None, ge=8, description="Tokens of a reply's words in the prompt that its picture is drawn from."
    )
