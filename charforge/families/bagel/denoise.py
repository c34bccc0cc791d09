"""One denoising step after another on the same pictures: what does not change between steps is laid out once."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from charforge.families.bagel.blocks import Bias, Block, Decoder, rotation, run_layers, visible
from charforge.families.bagel.context import Context
from charforge.families.bagel.decoder import KeyValue
from charforge.families.bagel.layers import without_autocast
from charforge.families.bagel.model import BagelModel
from charforge.graphs import Graphed


class Denoiser:
    """The velocity of one noised picture (latent positions (n,)) a row after ``context``.

    ``decoder`` is the model's, read with the adapter that is to act.
    """

    def __init__(self, model: BagelModel, decoder: Decoder, context: Context, position_ids: Tensor) -> None:
        config, device, dtype = model.config, model.device, model.dtype
        self._model, self._decoder = model, decoder
        rows, count = context.rows, position_ids.shape[0]
        self._past = None
        if context.cache is not None:
            self._past = [torch.cat(both, dim=2).transpose(1, 2) for both in context.cache]
        # all tokens of a picture share one position; its markers are text, its latents are not
        positions = torch.tensor(context.positions, device=device)
        cos, sin = (table[:, None] for table in rotation(config, positions, dtype))
        special = config.special_tokens
        markers = torch.tensor([special.image_start, special.image_end], device=device)
        embedded = model.language_model.model.embed_tokens(markers)
        self._markers = Block(embedded.expand(rows, -1, -1), cos, sin)
        self._places = model.latent_pos_embed(position_ids.to(device))
        self._turn = (cos, sin)
        self._steps: dict[int, Graphed] = {}
        self._bias = Bias(
            visible(context.valid, 2 + count, dtype).to(device),
            visible(context.understanding_valid, 2, dtype).to(device),
        )

    @torch.inference_mode()
    def velocity(self, latents: Tensor, timesteps: Tensor, adapted: int) -> Tensor:
        """Predicted velocity (rows, n, values) of ``latents`` (rows, n, values) at ``timesteps`` (rows,).

        The adapter acts on the first ``adapted`` rows; the others are drawn by the bare base.
        """
        if adapted not in self._steps:
            self._steps[adapted] = Graphed(self._model.device, self._model.cuda_graphs)
        return self._steps[adapted](partial(self._velocity, adapted), latents, timesteps)

    def _velocity(self, adapted: int, latents: Tensor, timesteps: Tensor) -> Tensor:
        model = self._model
        with without_autocast(latents.device):
            values = model.vae2llm(latents.to(model.dtype))
            tokens = values + model.time_embedder(timesteps)[:, None] + self._places
            drawn = Block(tokens, *self._turn)
            _, drawn_tokens = run_layers(self._decoder, self._markers, drawn, self._bias, self._remember, adapted)
            assert drawn_tokens is not None
            return model.llm2vae(model.language_model.model.norm_moe_gen(drawn_tokens))

    def _remember(self, index: int, fresh: Tensor) -> KeyValue:
        seen = fresh if self._past is None else torch.cat([self._past[index], fresh], dim=2)
        keys, values = seen.chunk(2, dim=1)
        return keys, values
