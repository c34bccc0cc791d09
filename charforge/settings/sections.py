"""All settings of a run, section by section. A field's description is its documentation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charforge.settings.expansion import ExpandSettings, PromptSettings
from charforge.settings.first_stage import SftSettings
from charforge.settings.second_stage import GrpoSettings, RewardSettings
from charforge.settings.section import Neutral, Section

OptimizerKind = Literal["adamw", "adamw8bit", "paged_adamw8bit"]


class AdapterSettings(Section):
    """Size and place of the LoRA adapter."""

    rank: int = Field(
        16, ge=1, le=512,
        description="Size of the adapter. A lower one learns less of a face; a higher one takes memory, and makes the "
        "bundle larger, in proportion.",
    )  # fmt: skip
    alpha: int = Field(
        32,
        ge=1,
        description="Strength of the adapter, scaled by alpha / rank: usually twice the rank, change both together.",
    )
    frozen_share: float = Field(
        0.0, ge=0, lt=1,
        description="Share of the reading expert's layers, counted from the lowest, without an adapter. What they "
        "make of a text never changes and is computed once a run: 0.5 is quicker than 0.33 and plans pictures worse.",
    )  # fmt: skip

    def first_layer(self, layers: int) -> int:
        """The lowest layer that carries the adapter, of ``layers``; one at least does."""
        return min(layers - 1, round(layers * self.frozen_share))


class PictureSettings(Section):
    """Sizes of pictures in pixels. A setting without a value is as the base has it."""

    longest_side: int | None = Field(
        None, ge=16, le=4096,
        description="Training pictures are scaled down until no side is longer, in pixels. 1024 has four times the "
        "tokens of 512, and takes about four times the time and memory.",
    )  # fmt: skip
    shortest_side: int | None = Field(
        None,
        ge=16,
        le=4096,
        description="Training pictures are scaled up until no side is shorter, in pixels; it wins over longest_side.",
    )
    draw_side: int | None = Field(
        None, ge=16, le=4096,
        description="Side in pixels of the square pictures that are drawn in previews, rewards, evaluation and chat.",
    )  # fmt: skip
    draw_steps: int | None = Field(
        None, ge=2, le=500,
        description="Sampling steps of a drawn picture, outside the second stage's own drawing. Time grows with it; "
        "30 of BAGEL's published 50 look the same to most eyes.",
    )  # fmt: skip


class MemorySettings(Section):
    """What is given up to need less memory, or to be quicker. None of it changes what is learned, except the
    optimiser's precision."""

    micro_batch: Neutral[int] = Field(
        64, ge=1,
        description="Samples in one pass of the first stage. Takes memory in proportion; halved by itself when a "
        "GPU's memory ends.",
    )  # fmt: skip
    checkpoint_layers: Neutral[bool] = Field(
        False,
        description="Computes each layer again in the backward pass instead of keeping its activations: slower, and "
        "predicted to need a tenth of their memory. Switched on by itself when one sample does not fit.",
    )
    logits_chunk: Neutral[int] = Field(
        1024, ge=1,
        description="Supervised tokens whose logits over the whole vocabulary exist at the same time. Lower it when a "
        "GPU runs out of memory on long texts.",
    )  # fmt: skip
    park_encoders: Neutral[bool] = Field(
        False,
        description="Keeps the autoencoder and the vision tower in the host's memory while they are not needed: 1.1 "
        "GiB of GPU memory for BAGEL, moved back and forth each time they work.",
    )
    compile_layers: Neutral[bool] = Field(
        False,
        description="Compiles the layers of the base for this machine (torch.compile): the first steps take minutes "
        "longer, the others less time each. For CUDA; an H200 compiled for two minutes and was no faster then: compare "
        "`charforge bench` with and without --compile.",
    )
    cuda_graphs: Neutral[bool] = Field(
        True,
        description="On a CUDA card, records a step of decoding and of drawing and starts it as a whole. Without it "
        "the card waits for the host: replies took two to three times as long on an H200. It costs up to half a GiB. "
        "This is for training; `chat`, `imagine` and `serve` have --no-cuda-graphs.",
    )
    optimizer: OptimizerKind = Field(
        "adamw",
        description='"adamw": moments in fp32, 8 bytes a trained weight. "adamw8bit": in 8 bit, 2 bytes. '
        '"paged_adamw8bit": in 8 bit, in memory that may leave the GPU in a tight moment. The last two are for CUDA.',
    )


class ChatSettings(Section):
    """How the character speaks in evaluation and, written into its bundle, in chat."""

    temperature: float = Field(
        0.7, ge=0, description="How freely words are chosen: 0 always takes the likeliest, above 1 it begins to ramble."
    )
    top_p: float = Field(
        0.9, gt=0, le=1, description="Chooses among the likeliest words that together have this probability."
    )
    repetition_penalty: float = Field(
        1.15, ge=1, le=2,
        description="Makes words less likely that the reply has used already; 1 switches it off. Small bases go in "
        "circles without it, large ones hardly need it.",
    )  # fmt: skip
    max_tokens: int = Field(120, ge=1, description="Longest reply, in tokens (about three quarters of a word each).")


class TrackingSettings(Section):
    """Where the figures of a run go beside its own files."""

    tracker: Neutral[Literal["none", "tensorboard", "wandb", "trackio"]] = Field(
        "none",
        description='Shows the figures in another program as well: "tensorboard" and "trackio" keep them on this '
        'machine, "wandb" sends them to Weights & Biases. Figures and settings alone, never texts or pictures. '
        'Needs the library of that name; "none": nothing leaves the run folder.',
    )  # fmt: skip
    project: Neutral[str] = Field(
        "charforge", min_length=1, description="The project under which Weights & Biases or Trackio list the run."
    )


class EvaluationSettings(Section):
    """What a run measures of itself when its training has ended."""

    share: Neutral[float] = Field(
        0.1, ge=0, le=1,
        description="Share of the training's time that the evaluation at its end may take: a verdict with figures and "
        "a page, from as many new scenes as that allows. 0 leaves it out; charforge eval makes it at any time.",
    )  # fmt: skip


class Settings(Section):
    """Everything that decides the result of a run beside the folder itself."""

    base: str = Field(
        "mini",
        description="The model that is trained: mini (comes with charforge), bagel, the name of a base that was "
        "added, or the path of a checkpoint.",
    )
    quantize: str | None = Field(
        None,
        description='Holds the frozen base in "int8" (half of bf16) or "nf4" (a quarter) to fit a smaller card; '
        "heads, embedders and encoders stay as they are. Left out: bf16, or fp32 where the processor has no bf16.",
    )
    seed: int = Field(
        0,
        description="Source of all randomness: the same seed on the same machine gives the same bits. Change it for "
        "another try.",
    )
    adapter: AdapterSettings = Field(AdapterSettings(), description="Size and place of the LoRA adapter.")
    sft: SftSettings = Field(
        SftSettings(),
        description="The first stage, Unified-SFT: texts and pictures of the character, learned together.",
    )
    grpo: GrpoSettings = Field(
        GrpoSettings(),
        description="The second stage, Character-GRPO: pictures of new scenes, drawn in groups and judged, teach the "
        "drawing expert.",
    )
    reward: RewardSettings = Field(
        RewardSettings(),
        description="What a picture of the second stage is paid for: weights of the parts of its reward.",
    )
    pictures: PictureSettings = Field(
        PictureSettings(), description="Sizes of the pictures that are learned and drawn."
    )
    memory: MemorySettings = Field(MemorySettings(), description="What is given up to need less memory.")
    expand: ExpandSettings = Field(
        ExpandSettings(), description="What training pairs are made of the character, and by whom."
    )
    prompt: PromptSettings = Field(
        PromptSettings(), description="How much of the character the prompts hold, in tokens."
    )
    chat: ChatSettings = Field(ChatSettings(), description="How the character speaks.")
    evaluation: EvaluationSettings = Field(
        EvaluationSettings(), description="What a run measures of itself when its training has ended."
    )
    tracking: TrackingSettings = Field(
        TrackingSettings(), description="Where the figures of a run go beside its own files."
    )
