"""The settings of the second stage, Character-GRPO, and of the reward that it learns from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from charforge.settings.section import Neutral, Section


class GrpoSettings(Section):
    """Character-GRPO: groups of pictures for new scenes, judged against each other, teach the drawing expert."""

    algorithm: Literal["grpo", "nft", "awm", "best_of"] = Field(
        "grpo",
        description='How it learns from judged pictures. "grpo": policy gradient on a few stochastic sampling steps; '
        '"nft": reinforcement on the forward process, which needs no stochastic steps; "awm": the first stage\'s '
        'picture loss times the advantage; "best_of": the first stage\'s picture loss on the best picture of each '
        "group, drawn with guidance as users draw.",
    )
    iterations: int = Field(
        30, ge=0,
        description="Rounds of drawing, judging and learning. Each draws prompts * group pictures. 0 leaves the "
        "second stage out.",
    )  # fmt: skip
    prompts: int = Field(
        6,
        ge=1,
        description="New scenes in each iteration. More make the reward less noisy and cost time in proportion.",
    )
    # fewer than four siblings say nothing about which of them is good
    group: int = Field(
        8, ge=4,
        description="Pictures of each scene, which are compared with each other; four at least. More tell better from "
        "worse more surely and cost time in proportion.",
    )  # fmt: skip
    updates: int = Field(
        2, ge=1,
        description="Optimiser steps in each iteration. Each learns from its share of the scenes, so there can be no "
        "more updates than prompts.",
    )  # fmt: skip
    steps: int = Field(
        14, ge=2,
        description="Sampling steps of each picture, without guidance. Fewer are quicker and show the judges softer "
        "pictures.",
    )  # fmt: skip
    timestep_shift: float = Field(
        3.0, gt=0, description="How far the sampling times lean towards noise, as in sft.timestep_shift."
    )
    noise: Literal["cps", "sde"] = Field(
        "cps",
        description='The form of a stochastic step. "cps" (coefficient-preserving) keeps as much noise in the picture '
        'as the flow has at that time; "sde" is the published form.',
    )  # fmt: skip
    noise_level: float = Field(
        0.8, gt=0,
        description="Strength of the noise in a stochastic step. For cps from 0 (none of it is drawn anew) to 1 (all "
        "of it is), for sde the factor of the published formula. More makes siblings differ more.",
    )  # fmt: skip
    window: int = Field(
        2, ge=1,
        description="Stochastic steps of each picture, the only ones that are learned from. The time of an update "
        "grows with it.",
    )  # fmt: skip
    window_last_start: int = Field(
        5, ge=0,
        description="The window begins at a step drawn evenly from 0 to this one. Early steps decide what is shown, "
        "late ones decide details.",
    )  # fmt: skip
    tail: int = Field(
        0, ge=0,
        description='Only for algorithm = "grpo" and "nft": sampling steps from the end of the window to the picture. '
        "Only trained steps need the fine grid; fewer are quicker and show the judges softer pictures. 0 is the rest "
        "of the grid.",
    )  # fmt: skip
    step_weights: Literal["even", "noise"] = Field(
        "even",
        description='Only for algorithm = "grpo": what a stochastic step counts. "noise": in proportion to the noise '
        "that it adds, so that early steps, which decide what is shown, teach more.",
    )  # fmt: skip
    extremes: int = Field(
        0, ge=0,
        description="Learns from so many of the best and as many of the worst pictures of each group; an update takes "
        'less time. 0 learns from all. Not for algorithm = "best_of", which learns from the best one.',
    )  # fmt: skip
    side: int | None = Field(
        None, ge=1,
        description="Pixels a side of the pictures that are drawn and judged to learn from; held-out scenes keep the "
        "size of use. Half of it costs about a quarter. Unset: the size of use.",
    )  # fmt: skip
    learning_rate: float = Field(
        3e-4, gt=0,
        description="Highest learning rate; linear warm-up, then a cosine to a tenth. Lower it first when pictures "
        "lose the character's likeness.",
    )  # fmt: skip
    warmup: int = Field(6, ge=0, description="Optimiser steps over which the learning rate rises from zero.")
    clip_range: float = Field(
        1e-4, gt=0,
        description="How far the probability ratio may move from 1 before a picture stops pulling. It belongs to the "
        "mean log-probability per value, hence so small.",
    )  # fmt: skip
    importance_cap: float = Field(
        0.0, ge=0,
        description="Weighs each picture by how likely training finds it against how likely sampling found it, at "
        "most this much. Set 2 when a run says that sampling and training compute apart; 0 leaves it out.",
    )  # fmt: skip
    advantage_clip: float = Field(
        5.0, gt=0, description="Largest advantage, in standard deviations of the group. Rarely worth changing."
    )
    gradient_clip: float = Field(
        1.0, gt=0, description="Largest length of the gradient; a longer one is scaled down to it."
    )
    micro_batch: Neutral[int] = Field(
        24, ge=1,
        description="Pictures in one pass of drawing and learning. Takes memory in proportion; halved by itself when "
        "a GPU's memory ends.",
    )  # fmt: skip
    anchor: float = Field(
        0.2, ge=0,
        description="Weight of the first stage's picture loss beside the reward, where both gradients have length 1. "
        "Raise it when the likeness is lost; 0 holds nothing.",
    )  # fmt: skip
    anchor_pictures: int = Field(
        8, ge=0, description="Pictures of the character in that loss, and as many of the base's own, in each update."
    )
    guard: float = Field(
        0.1, gt=0,
        description="Stops the stage when the flow loss of held-out pictures has risen by this share (0.1 is 10 %).",
    )  # fmt: skip
    evaluate_every: int = Field(
        10, ge=1, description="Iterations between two measurements on held-out scenes; the best one is kept."
    )
    held_out_pictures: int = Field(12, ge=1, description="Pictures drawn, with guidance, in each such measurement.")
    patience: int = Field(
        2, ge=1,
        description="Stops the stage after so many measurements at which the reward rose while judges that are "
        "no part of the reward saw less of the scene.",
    )  # fmt: skip
    preview_every: Neutral[int] = Field(
        10,
        ge=1,
        description="Iterations between two previews in the run folder, of the same scenes as the first stage's.",
    )
    checkpoint_every: Neutral[int] = Field(
        5, ge=1, description="Iterations between two checkpoints: at most so many are computed again after a kill."
    )
    nft_beta: float = Field(
        1.0, gt=0, description='Only for algorithm = "nft": how far the good and the bad policy stand apart.'
    )
    draws: int = Field(
        2, ge=1,
        description='Not for algorithm = "grpo": noisy versions of each drawn picture in an update, as in sft.draws.',
    )  # fmt: skip
    negative_share: float = Field(
        0.5, ge=0, le=1,
        description='Only for algorithm = "awm": how much of an advantage below zero counts. 1 is the published form, '
        "whose loss has no lower end for bad pictures; 0 learns from good ones only.",
    )  # fmt: skip
    kept_pictures: int = Field(
        8, ge=1,
        description='Only for algorithm = "best_of": pictures in each update, out of the best one of every scene that '
        "has been drawn so far.",
    )  # fmt: skip
    nft_decay: float = Field(
        0.5, ge=0, lt=1,
        description='Only for algorithm = "nft": share of the old policy that stays after each iteration. Higher '
        "follows more slowly and more steadily.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _window_ends_before_the_picture(self) -> Self:
        if self.window_last_start + self.window >= self.steps:
            raise ValueError(f"window_last_start + window must be less than steps ({self.steps})")
        return self

    @model_validator(mode="after")
    def _extremes_are_no_more_than_the_group(self) -> Self:
        if 2 * self.extremes > self.group:
            raise ValueError(
                f"extremes ({self.extremes}) takes as many of the best as of the worst pictures: it must not be more "
                f"than half of group ({self.group})"
            )
        return self

    @model_validator(mode="after")
    def _every_update_has_a_scene(self) -> Self:
        if self.updates > self.prompts:
            raise ValueError(
                f"updates ({self.updates}) must not be more than prompts ({self.prompts}): every update learns "
                "from its share of the scenes"
            )
        return self


class RewardSettings(Section):
    """What a drawn picture is paid for: the weighted sum of these parts, each in units of its own spread."""

    model_config = ConfigDict(extra="allow")
    # weights of rewards that have no field here: whether there is such a reward, charforge/judges knows
    __pydantic_extra__: dict[str, Annotated[float, Field(ge=0)]]

    published: bool = Field(
        False,
        description="Takes the reward of the UniCharacter paper as it stands instead of the weights below. It needs "
        "judges that are not part of charforge; for comparison, not for use.",
    )
    encoder: str = Field(
        "efficientnet-lite0",
        description='The network whose features decide likeness: "efficientnet-lite0" (comes with charforge), '
        '"dinov2" (sees more, its weights are fetched), "dinov2:FOLDER" or "clip:MODEL/PRETRAINED" (open_clip).',
    )
    clip: str = Field(
        "",
        description='A CLIP model of open_clip, for example "ViT-L-14/openai", that says how well a picture fits its '
        "prompt; empty: none. Then also give clip_text a weight.",
    )
    scene: float = Field(
        0.75, ge=0,
        description="Weight of showing the scene: yes and no questions about it, answered by the base without "
        "adapter. Lower it (0.30) where clip_text has a weight.",
    )  # fmt: skip
    clip_text: float = Field(
        0.0, ge=0, description="Weight of CLIP's similarity of picture and prompt (0.45 is usual). Needs reward.clip."
    )
    on_cpu: Neutral[bool] = Field(
        False,
        description="Keeps encoder and CLIP on the CPU: slower judging, and for DINOv2 with CLIP about 2 GiB of GPU "
        "memory less.",
    )
    identity: float = Field(
        0.15, ge=0,
        description="Weight of being like the character's pictures, up to how alike they are to each other.",
    )  # fmt: skip
    copying: float = Field(
        0.15, ge=0, description="Weight of not being more like one of them than any two of them are to each other."
    )
    variety: float = Field(
        0.10, ge=0,
        description="Weight of being unlike its siblings, for pictures that show the scene at least as well as the "
        "group does on average.",
    )  # fmt: skip
