"""Shapes of the unified model: one set of values for BAGEL-7B-MoT, the embedded ``mini`` and test models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from charforge.errors import InputError
from charforge.families.bagel.sizes import resized
from charforge.families.protocol import Role
from charforge.families.work import Flops, Tokens


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExpertConfig(_Strict):
    """Widths of one expert. Both experts project into the same attention heads, so only these may differ."""

    hidden_size: int
    intermediate_size: int
    qk_norm: bool = True
    qkv_bias: bool = True


class VisionConfig(_Strict):
    """The vision tower (SigLIP shape without pooling head). ``layers`` is what the checkpoint holds."""

    hidden_size: int
    intermediate_size: int
    heads: int
    layers: int
    patch_size: int = 14
    patches_per_side: int = 70
    max_size: int = 980
    min_size: int = 224


class AutoencoderConfig(_Strict):
    """The image autoencoder (charforge/families/bagel/autoencoder.py).

    ``pixel_unshuffle`` folds n x n pixels into channels in front of the first convolution: far less work at the same
    total downsampling, for CPUs. ``latent_mean`` and ``latent_std`` (per channel) or the scalar
    ``shift_factor`` and ``scale_factor`` standardise the latent.
    """

    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 16
    norm_num_groups: int = 32
    mid_block_attention: bool = True
    pixel_unshuffle: int = 1
    scale_factor: float = 0.3611
    shift_factor: float = 0.1159
    latent_mean: tuple[float, ...] | None = None
    latent_std: tuple[float, ...] | None = None

    @property
    def downsample(self) -> int:
        """Pixels per latent cell along one side."""
        return self.pixel_unshuffle * 2 ** (len(self.channels) - 1)


class SamplingConfig(_Strict):
    """How pictures are drawn unless the caller says otherwise (bagel.md section 5).

    At times above ``cfg_bare_above`` guidance leads away from the bare base, below from the model with its adapter;
    1 is never the base, as published, 0 always.
    """

    steps: int = 50
    timestep_shift: float = 3.0
    cfg_text_scale: float = 4.0
    cfg_img_scale: float = 1.0
    cfg_interval: tuple[float, float] = (0.4, 1.0)
    cfg_bare_above: float = 0.75
    cfg_renorm_type: str = "global"
    cfg_renorm_min: float = 0.0
    height: int = 1024
    width: int = 1024


class SpecialTokens(_Strict):
    """Token ids that structure a sample. ``bos`` and ``eos`` are the chat markers, not the tokenizer's own."""

    bos: int
    eos: int
    image_start: int
    image_end: int


class BagelConfig(_Strict):
    """Everything needed to build the model without weights."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    understanding: ExpertConfig
    generation: ExpertConfig
    generation_layers: tuple[int, ...] | None = Field(
        default=None, description="layers that have a generation expert; all of them when absent"
    )
    vision: VisionConfig
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    latent_patch_size: int = 2
    max_latent_size: int = 64
    interpolate_positions: bool = False
    image_max_size: int = 1024
    image_min_size: int = 512
    square_images: bool = Field(
        default=False, description="crop training pictures to their middle square: the base only draws squares"
    )
    special_tokens: SpecialTokens
    chat_roles: bool = False
    context_tokens: int = Field(default=32768, gt=0, description="how many tokens it was made to read at once")
    sampling: SamplingConfig = SamplingConfig()

    @property
    def decoder_inputs(self) -> set[int]:
        """The input widths of all decoder linears: what decides which quantisations fit."""
        widths = {self.heads * self.head_dim}
        for expert in (self.understanding, self.generation):
            widths |= {expert.hidden_size, expert.intermediate_size}
        return widths

    @property
    def latent_stride(self) -> int:
        """Pixels per latent token along one side."""
        return self.autoencoder.downsample * self.latent_patch_size

    @property
    def latent_token_size(self) -> int:
        """Values in one latent token."""
        return self.latent_patch_size**2 * self.autoencoder.latent_channels

    @property
    def drawing_grid(self) -> tuple[int, int]:
        """Rows and columns of latent tokens of a drawing."""
        return self.sampling.height // self.latent_stride, self.sampling.width // self.latent_stride

    def has_generation(self, layer: int) -> bool:
        """Whether decoder layer ``layer`` carries a generation expert."""
        return self.generation_layers is None or layer in self.generation_layers

    # what charforge/families/protocol.py asks of shapes

    @property
    def drawing_size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.sampling.width, self.sampling.height

    @property
    def drawing_settings(self) -> dict[str, Any]:
        """The values of :class:`SamplingConfig`."""
        return self.sampling.model_dump(mode="json")

    @property
    def precisions(self) -> tuple[str, ...]:
        """nf4 packs blocks of 64 (families/bagel/quantize.py)."""
        fits = all(width % 64 == 0 for width in self.decoder_inputs)
        return ("bf16", "int8", "nf4") if fits else ("bf16", "int8")

    def with_picture_sizes(
        self, longest: int | None, shortest: int | None, side: int | None, steps: int | None
    ) -> Self:
        """Raises InputError for a side that it cannot draw."""
        stride, sampling = self.latent_stride, self.sampling
        if side is not None and (side % stride or side // stride > self.max_latent_size):
            raise InputError(
                f"{side} pixels a side (pictures.draw_side, grpo.side): this base draws multiples of {stride} up to "
                f"{stride * self.max_latent_size}"
            )
        drawing = {"height": side or sampling.height, "width": side or sampling.width, "steps": steps or sampling.steps}
        sizes = {"image_max_size": longest or self.image_max_size, "image_min_size": shortest or self.image_min_size}
        return self.model_copy(update=sizes | {"sampling": sampling.model_copy(update=drawing)})

    def adapter_pattern(self, first_layer: int = 0, roles: Sequence[Role] = ("text", "picture")) -> str:
        """All seven linears of an expert in each of its layers."""
        linears = r"(self_attn\.(q|k|v|o)_proj{0}|mlp{0}\.(gate|up|down)_proj)"
        # layer numbers that are at least first_layer, as a look-ahead: peft takes one pattern
        below = "|".join(str(layer) for layer in range(first_layer))
        layers = rf"(?!(?:{below})\.)\d+" if first_layer else r"\d+"
        experts = {"text": rf"{layers}\.{linears.format('')}", "picture": rf"\d+\.{linears.format('_moe_gen')}"}
        return r"language_model\.model\.layers\.(" + "|".join(experts[role] for role in roles) + ")"

    def adapter_linears(self, first_layer: int = 0) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) by name."""
        found: dict[str, tuple[int, int]] = {}
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        for layer in range(self.layers):
            experts = [("", self.understanding)] if layer >= first_layer else []
            if self.has_generation(layer):
                experts.append(("_moe_gen", self.generation))
            for suffix, expert in experts:
                wide, inner = expert.hidden_size, expert.intermediate_size
                linears = {
                    f"self_attn.q_proj{suffix}": (wide, queries),
                    f"self_attn.k_proj{suffix}": (wide, keys),
                    f"self_attn.v_proj{suffix}": (wide, keys),
                    f"self_attn.o_proj{suffix}": (queries, wide),
                    f"mlp{suffix}.gate_proj": (wide, inner),
                    f"mlp{suffix}.up_proj": (wide, inner),
                    f"mlp{suffix}.down_proj": (inner, wide),
                }
                found |= {f"language_model.model.layers.{layer}.{name}": sizes for name, sizes in linears.items()}
        return found

    def role_of(self, name: str) -> Role:
        """The generation expert draws."""
        return "picture" if "_moe_gen" in name else "text"

    def target_tokens(self, width: int, height: int) -> int:
        """Latents of a picture after the published resize rule."""
        if self.square_images:
            width = height = min(width, height)
        stride = self.latent_stride
        scaled = resized(width, height, self.image_max_size, self.image_min_size, stride)
        return (scaled[0] // stride) * (scaled[1] // stride)

    def look_tokens(self, width: int, height: int) -> int:
        """Patches of the vision tower."""
        vision = self.vision
        scaled = resized(width, height, vision.max_size, vision.min_size, vision.patch_size)
        return (scaled[0] // vision.patch_size) * (scaled[1] // vision.patch_size)

    @property
    def drawing_tokens(self) -> int:
        """Latents of one drawing."""
        rows, columns = self.drawing_grid
        return rows * columns

    @property
    def text_marks(self) -> int:
        """bos and eos."""
        return 2

    @property
    def picture_marks(self) -> int:
        """Its start and its end."""
        return 2

    @property
    def largest_side(self) -> int:
        """In pixels."""
        return min(self.image_max_size, self.max_latent_size * self.latent_stride)

    @property
    def side_step(self) -> int:
        """In pixels."""
        return self.latent_stride

    def shallow(self, layers: int) -> Self:
        """Where only some layers draw, the pattern of the first ones is taken as it is."""
        drawing = self.generation_layers
        kept = None if drawing is None else tuple(layer for layer in drawing if layer < layers)
        return self.model_copy(update={"layers": layers, "generation_layers": kept})

    @property
    def period(self) -> int:
        """One layer draws in so many."""
        drawing = self.generation_layers
        return 1 if drawing is None else self.layers // max(1, len(drawing))

    def pass_flops(self, tokens: Tokens, rank: int) -> Flops:
        """See families/bagel/flops.py."""
        from charforge.families.bagel.flops import pass_flops

        return pass_flops(self, tokens, rank)


# Qwen2.5 ids of the markers in the published checkpoint (bagel.md section 4).
BAGEL_TOKENS = SpecialTokens(bos=151644, eos=151645, image_start=151652, image_end=151653)


# BAGEL-7B-MoT as published (bagel.md sections 1 and 2); the vision file counts one layer more than the checkpoint holds
_BAGEL_LLM = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "rope_theta": 1e6, "rms_norm_eps": 1e-6,
}  # fmt: skip
_BAGEL_VIT = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27,
    "patch_size": 14, "image_size": 980,
}  # fmt: skip


def bagel_7b() -> BagelConfig:
    """The shapes of BAGEL-7B-MoT, known without its files."""
    return official_config(_BAGEL_LLM, _BAGEL_VIT, {}, BAGEL_TOKENS)


def read_config(folder: Path) -> BagelConfig:
    """Read the configuration of a base folder: charforge's own ``charforge_base.json`` or the official layout.

    Raises InputError that names the file and what is missing from it.
    """
    own = folder / "charforge_base.json"
    if own.exists():
        try:
            return BagelConfig.model_validate_json(own.read_bytes())
        except ValidationError as error:
            raise InputError(f"{own} is not a valid base configuration: {error}") from error
    return _read_official_config(folder)


def _read_official_config(folder: Path) -> BagelConfig:
    llm = _read_json(folder / "llm_config.json")
    vit = _read_json(folder / "vit_config.json")
    top: dict[str, Any] = {}
    # Early snapshots of config.json are not valid JSON and the official code never reads it (bagel.md section 1).
    if (folder / "config.json").exists():
        try:
            top = json.loads((folder / "config.json").read_text("utf-8"))
        except json.JSONDecodeError:
            top = {}
    tokens = BAGEL_TOKENS
    if (folder / "special_tokens.json").exists():
        tokens = SpecialTokens(**_read_json(folder / "special_tokens.json"))
    try:
        return official_config(llm, vit, top, tokens)
    except KeyError as error:
        raise InputError(f"{folder}: llm_config.json or vit_config.json lacks {error}; fetch the base again") from error
    except (ValidationError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise InputError(f"{folder}: a value in its configuration files is none; fetch the base again") from error


def official_config(
    llm: dict[str, Any], vit: dict[str, Any], top: dict[str, Any], tokens: SpecialTokens
) -> BagelConfig:
    """Build the configuration from the parsed official files.

    The official scripts set qk-norm, untied head and one vision layer fewer in code, whatever the files say
    (bagel.md sections 1 and 8).
    """
    expert = ExpertConfig(hidden_size=llm["hidden_size"], intermediate_size=llm["intermediate_size"])
    vae = top.get("vae_config", {})
    autoencoder = AutoencoderConfig()
    if "ch" in vae:
        autoencoder = AutoencoderConfig(
            channels=tuple(vae["ch"] * m for m in vae["ch_mult"]),
            layers_per_block=vae["num_res_blocks"],
            latent_channels=vae["z_channels"],
            scale_factor=vae["scale_factor"],
            shift_factor=vae["shift_factor"],
        )
    return BagelConfig(
        layers=llm["num_hidden_layers"],
        heads=llm["num_attention_heads"],
        kv_heads=llm["num_key_value_heads"],
        head_dim=llm["hidden_size"] // llm["num_attention_heads"],
        vocab_size=llm["vocab_size"],
        rope_theta=llm["rope_theta"],
        rms_norm_eps=llm["rms_norm_eps"],
        understanding=expert,
        generation=expert,
        vision=VisionConfig(
            hidden_size=vit["hidden_size"],
            intermediate_size=vit["intermediate_size"],
            heads=vit["num_attention_heads"],
            layers=vit["num_hidden_layers"] - 1,
            patch_size=vit["patch_size"],
            patches_per_side=top.get("vit_max_num_patch_per_side", 70),
            max_size=vit.get("image_size", 980),
        ),
        autoencoder=autoencoder,
        latent_patch_size=top.get("latent_patch_size", 2),
        max_latent_size=top.get("max_latent_size", 64),
        interpolate_positions=top.get("interpolate_pos", False),
        special_tokens=tokens,
        context_tokens=llm.get("max_position_embeddings", 32768),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: this is not a base in the official layout") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON ({error}); fetch the base again") from error
