"""BAGEL behind the door of charforge/families/protocol.py: model, autoencoder and tokenizer as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from charforge.families.bagel import images, losses, reading
from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.blocks import pack_decoder
from charforge.families.bagel.config import BagelConfig, SamplingConfig
from charforge.families.bagel.context import (
    Context,
    NoisedBlock,
    empty_context,
    extend_context,
    prepare_block,
    velocity,
)
from charforge.families.bagel.decode import Step, stream_text
from charforge.families.bagel.frozen_layers import samples_with_trunks
from charforge.families.bagel.layers import grid_position_ids
from charforge.families.bagel.model import BagelModel, computes_in_bf16
from charforge.families.bagel.sampler import DrawnStep, Guidance, draw, draw_steps, timestep_schedule
from charforge.families.bagel.side_by_side import SideBySide
from charforge.families.bagel.splits import LookSplit, TextSplit, splits_of, text_pieces
from charforge.families.bagel.tokenizer import Tokenizer
from charforge.families.results import Looked
from charforge.pixels import middle_square, to_rgb
from charforge.sample import Noise, Part, Picture, Sample, Target, portions

TOWER_TOKENS = 16_384
"""Patches of pictures that go through the vision tower together."""


@dataclass(frozen=True)
class LatentGrid:
    """A canvas: ``rows`` by ``columns`` latent tokens of ``values`` each, with their rows of the position table."""

    rows: int
    columns: int
    values: int
    position_ids: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(tokens, values) of a state."""
        return self.rows * self.columns, self.values


@dataclass(frozen=True)
class TrainingDenoiser:
    """The velocity through the modules that learn."""

    network: BagelModel
    block: NoisedBlock

    def velocity(self, states: Tensor, times: Tensor) -> Tensor:
        """(rows, tokens, values) in fp32, with gradients."""
        return velocity(self.network, self.block, states, times).float()


@dataclass
class UnifiedBagel:
    """See :class:`charforge.families.protocol.UnifiedModel`; what is said there is not repeated here.

    BAGEL's own time and velocity are those of the protocol, and its noise is standard normal.
    """

    network: BagelModel
    autoencoder: Autoencoder
    tokenizer: Tokenizer

    @property
    def shapes(self) -> BagelConfig:
        return self.network.config

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype

    def autocast(self) -> torch.autocast:
        """bf16 where the frozen weights are held in it; fp32 as it is elsewhere."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=computes_in_bf16(self.network))

    @property
    def recompute_layers(self) -> bool:
        return self.network.language_model.model.checkpoint_layers

    @recompute_layers.setter
    def recompute_layers(self, value: bool) -> None:
        self.network.language_model.model.checkpoint_layers = value

    def use_picture_sizes(self, longest: int | None, shortest: int | None, side: int | None, steps: int | None) -> None:
        self.network.config = self.shapes.with_picture_sizes(longest, shortest, side, steps)

    def compile_layers(self, backend: str = "inductor") -> None:
        # layer by layer: all have the same code, so that one graph of each kind serves all of them
        for layer in self.network.language_model.model.layers:
            layer.compile(dynamic=True, backend=backend)

    def use_cuda_graphs(self, on: bool) -> None:
        self.network.cuda_graphs = on

    def pack_for_use(self) -> None:
        """See ``blocks.pack_decoder``."""
        self.network.packed = pack_decoder(self.network)

    # autoencoder and vision tower, which may wait elsewhere

    def park_encoders(self) -> None:
        """A gigabyte of a small GPU."""
        for module in self._encoders():
            module.to("cpu")

    def _encoders(self) -> tuple[nn.Module, ...]:
        network = self.network
        return self.autoencoder, network.vit_model, network.connector, network.vit_pos_embed

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """The encoders stand beside the decoder inside the block. Their weights are frozen: what is kept elsewhere
        stays there, and of the copies here nothing has to be carried back."""
        away = [module for module in self._encoders() if next(module.parameters()).device != self.device]
        owners = [owner for module in away for owner in module.modules()]
        values = [(parameter, parameter.data) for module in away for parameter in module.parameters()]
        places: list[tuple[nn.Module, str, Tensor]] = []
        for owner in owners:
            own = (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False))
            places += [(owner, name, tensor) for name, tensor in own]
        for module in away:
            module.to(self.device)
        try:
            yield
        finally:
            for parameter, value in values:
                parameter.data = value
            for owner, name, tensor in places:
                setattr(owner, name, tensor)

    # samples

    def text(self, text: str, role: str | None = None, loss: bool = False) -> TextSplit:
        return self.tokenizer.text(text, role, loss)

    @torch.no_grad()
    def pieces(self, part: Part, tokens: int) -> Sequence[Part]:
        return text_pieces(part, tokens) if isinstance(part, TextSplit) else [part]

    def look(self, image: Image.Image) -> LookSplit:
        """With what the frozen vision tower makes of it."""
        look = images.look_split(image, self.shapes)
        with self._at_work(), self.autocast():
            patches, ids = look.patches.to(self.device), look.position_ids.to(self.device)
            return replace(look, features=self.network.look(patches, ids, [len(ids)]).cpu())

    @torch.no_grad()
    def prepare_picture(self, image: Image.Image) -> Picture:
        """The posterior mean as drawing target, and what the vision tower sees."""
        image = to_rgb(image)
        if self.shapes.square_images:
            image = middle_square(image)
        pixels = images.vae_pixels(image, self.shapes)[None].to(self.device)
        with self._at_work():
            latent = self.autoencoder.encode(pixels)[0].cpu()
        split = images.latent_split(latent, self.shapes)
        return Picture(Target(split.tokens, split.position_ids), self.look(image))

    def picture_tensors(self, picture: Picture) -> dict[str, Tensor]:
        look = picture.look
        assert isinstance(look, LookSplit)
        found = {
            "x0": picture.target.x0,
            "position_ids": picture.target.position_ids,
            "patches": look.patches,
            "patch_position_ids": look.position_ids,
            "features": look.features,
        }
        return {name: tensor.contiguous() for name, tensor in found.items() if tensor is not None}

    def picture_from(self, tensors: Mapping[str, Tensor]) -> Picture:
        look = LookSplit(tensors["patches"], tensors["patch_position_ids"], tensors["features"])
        return Picture(Target(tensors["x0"], tensors["position_ids"]), look)

    @property
    def preparation(self) -> str:
        return f"{self.shapes.image_max_size}:{self.shapes.image_min_size}"

    @property
    def drawing(self) -> str:
        return self.shapes.sampling.model_dump_json()

    @torch.no_grad()
    def look_at(self, pixels: Tensor) -> Looked:
        looks = [images.look_split_of_pixels(picture, self.shapes) for picture in pixels]
        parts, means = list[LookSplit](), list[Tensor]()
        with self._at_work(), self.autocast():
            for some in portions([look.length for look in looks], TOWER_TOKENS):
                mine = looks[some.start : some.stop]
                lengths = [len(look.position_ids) for look in mine]
                ids = torch.cat([look.position_ids for look in mine]).to(self.device)
                seen = self.network.vit_model(torch.cat([look.patches for look in mine]).to(self.device), ids, lengths)
                features = self.network.connect(seen, ids).cpu().split(lengths)
                parts += [replace(look, features=own) for look, own in zip(mine, features, strict=True)]
                means += [own.mean(0) for own in seen.float().split(lengths)]
        return Looked(tuple(parts), F.normalize(torch.stack(means), dim=-1))

    def without_prompt(self, sample: Sample) -> Sample:
        """Only the pictures remain, and nothing advances (bagel.md section 4)."""
        return tuple(part for part in sample if not isinstance(part, TextSplit))

    @torch.no_grad()
    def read_frozen_layers(self, samples: Sequence[Sample], layers: int) -> list[Sample]:
        return samples_with_trunks(self.network, samples, layers)

    # learning

    def text_loss(self, samples: Sequence[Sample], chunk: int = 1024) -> tuple[Tensor, int]:
        return losses.text_loss(self.network, samples, chunk)

    def picture_loss(self, samples: Sequence[Sample], noise: Noise, prompt_gradients: bool) -> tuple[Tensor, int]:
        return losses.picture_loss(self.network, samples, noise, prompt_gradients)

    @torch.no_grad()
    def log_likelihoods(self, rows: Sequence[Sample], after: Context | None = None) -> list[Tensor]:
        return reading.log_likelihoods(self.network, [splits_of(row) for row in rows], after)

    # reading

    @torch.no_grad()
    def read(self, rows: Sequence[Sample], after: Context | None = None) -> Context:
        context = empty_context(len(rows)) if after is None else after
        with self._at_work():
            for parts in zip(*rows, strict=True):
                context = extend_context(self.network, context, splits_of(parts))
        return context

    # speaking

    def reply_prefix(self) -> int:
        return len(self.tokenizer.role_prefix("assistant"))

    def reply_tokens(self, text: str) -> list[int]:
        return list(self.text(text, "assistant").ids[self.reply_prefix() :])

    @torch.no_grad()
    def reply_logits(self, rows: Sequence[Sample], after: Context | None = None) -> Tensor:
        begun = TextSplit(tuple(self.tokenizer.role_prefix("assistant")), loss=True)
        return reading.last_logits(self.network, [[*splits_of(row), begun] for row in rows], after)

    def reply(self, conditioning: Context, choose: Callable[[Tensor], Tensor], max_tokens: int) -> Iterator[Step]:
        prefix = self.tokenizer.role_prefix("assistant")
        return stream_text(self.network, conditioning, choose, max_tokens, prefix)

    def speaking(self) -> SideBySide:
        return SideBySide(self.network, self.tokenizer.role_prefix("assistant"))

    def ends(self, token: int) -> bool:
        return token == self.shapes.special_tokens.eos

    def words(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens)

    # drawing

    def canvas(self, side: int | None = None) -> LatentGrid:
        config = self.shapes.with_picture_sizes(None, None, side, None)
        rows, columns = config.drawing_grid
        ids = grid_position_ids(rows, columns, config.max_latent_size, config.interpolate_positions)
        return LatentGrid(rows, columns, config.latent_token_size, ids)

    def times(self, steps: int, shift: float) -> Tensor:
        return timestep_schedule(steps + 1, shift)

    def denoiser(self, conditioning: Context, canvas: LatentGrid) -> TrainingDenoiser:
        return TrainingDenoiser(self.network, prepare_block(self.network, conditioning, canvas.position_ids))

    def draw(
        self,
        conditioning: Context,
        noise: Tensor,
        canvas: LatentGrid,
        *,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        return draw(self.network, *self._drawing(conditioning, noise, canvas, steps, guidance))

    def draw_steps(
        self, conditioning: Context, noise: Tensor, canvas: LatentGrid, *, steps: int | None = None,
        guidance: float | None = None,
    ) -> Iterator[DrawnStep]:  # fmt: skip
        return draw_steps(self.network, *self._drawing(conditioning, noise, canvas, steps, guidance))

    def _drawing(
        self, conditioning: Context, noise: Tensor, canvas: LatentGrid, steps: int | None, guidance: float | None
    ) -> tuple[Guidance, Tensor, Tensor, SamplingConfig]:
        changes: dict[str, object] = {} if steps is None else {"steps": steps + 1}
        if guidance is not None:
            changes |= {"cfg_text_scale": guidance, "cfg_interval": (0.0, 1.0), "cfg_img_scale": 1.0}
        contexts = Guidance(conditioning, without_text=empty_context(conditioning.rows), without_images=conditioning)
        settings = self.shapes.sampling.model_copy(update=changes)
        return contexts, noise.to(self.device), canvas.position_ids, settings

    def target(self, state: Tensor, canvas: LatentGrid) -> Target:
        return Target(state.cpu(), canvas.position_ids)

    def drawn_target(self, x0: Tensor, rows: int, columns: int) -> Target:
        config = self.shapes
        return Target(x0, grid_position_ids(rows, columns, config.max_latent_size, config.interpolate_positions))

    @torch.no_grad()
    def decode(self, states: Tensor, canvas: LatentGrid) -> Tensor:
        with self._at_work():
            # one by one: a picture of 1024 pixels a side takes two gigabytes on its way
            return torch.stack([self._decoded(state, canvas.rows, canvas.columns) for state in states])

    @torch.no_grad()
    def decode_target(self, target: Target) -> Tensor:
        side = self.shapes.max_latent_size
        rows, columns = int(target.position_ids.max()) // side + 1, int((target.position_ids % side).max()) + 1
        with self._at_work():
            return self._decoded(target.x0, rows, columns)

    def _decoded(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        latent = images.unpatchify_latent(tokens, rows, columns, self.shapes.latent_patch_size)
        return self.autoencoder.decode(latent[None].to(self.device))[0]
