"""BagelModel: the unified model as one module with the published parameter names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.decoder import KeyValue, LanguageModel
from charforge.families.bagel.layers import PositionTable, TimestepEmbedder
from charforge.families.bagel.packing import Pack
from charforge.families.bagel.products import PackedWeight
from charforge.families.bagel.vision import Connector, VisionTower


@dataclass(frozen=True)
class Output:
    """``logits`` (supervised positions, vocabulary), ``velocity`` (latent tokens, values), new keys and values.

    Without head, ``logits`` are the hidden states (supervised positions, H_u) that the head would read.
    """

    logits: Tensor
    velocity: Tensor
    cache: list[KeyValue]


def computes_in_bf16(model: BagelModel) -> bool:
    """Whether the frozen base is held in bf16; tests and old CPUs use fp32."""
    return model.vae2llm.weight.dtype == torch.bfloat16


class BagelModel(nn.Module):
    """Text, vision tokens and latent tokens through one decoder (bagel.md section 3). The autoencoder stands apart."""

    def __init__(self, config: BagelConfig) -> None:
        super().__init__()
        self.config = config
        # second copies of the decoder's weights for fast inference, where blocks.pack_decoder made them
        self.packed: dict[str, PackedWeight] = {}
        self.cuda_graphs = False
        hidden, generation = config.understanding.hidden_size, config.generation.hidden_size
        self.language_model = LanguageModel(config)
        self.vit_model = VisionTower(config.vision)
        self.connector = Connector(config.vision.hidden_size, hidden)
        self.vit_pos_embed = PositionTable(config.vision.patches_per_side, hidden)
        self.time_embedder = TimestepEmbedder(generation)
        self.latent_pos_embed = PositionTable(config.max_latent_size, generation)
        self.vae2llm = nn.Linear(config.latent_token_size, generation)
        self.llm2vae = nn.Linear(generation, config.latent_token_size)

    @property
    def device(self) -> torch.device:
        return self.vae2llm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the frozen base is held in, quantised matrices aside."""
        return self.vae2llm.weight.dtype

    def forward(self, batch: Pack, cache: list[KeyValue] | None = None, head: bool = True) -> Output:
        """One pass over ``batch``; with ``cache`` its tokens also look back at the cached keys and values."""
        und = self.embed_understanding(batch) if batch.trunk is None else batch.trunk
        und, gen, fresh = self.language_model.model(
            und, self.embed_latents(batch), batch.layout, cache, batch.first_layer
        )
        supervised = und[batch.loss_rows]
        logits = self.language_model.logits(supervised) if head else supervised
        velocity = self.llm2vae(gen.to(self.llm2vae.weight.dtype))
        return Output(logits, velocity, fresh)

    def embed_understanding(self, batch: Pack) -> Tensor:
        """(understanding tokens, H_u): text and markers from the table, patches through tower and connector."""
        text = self.language_model.model.embed_tokens(batch.text_ids)
        total = batch.text_rows.shape[0] + batch.patch_rows.shape[0]
        und = text.new_zeros(total, text.shape[1]).index_copy(0, batch.text_rows, text)
        if batch.patch_lengths:
            look = batch.features
            if look is None:
                look = self.look(batch.patches, batch.patch_position_ids, batch.patch_lengths)
            und = und.index_copy(0, batch.patch_rows, look.to(und.dtype))
        return und

    def look(self, patches: Tensor, position_ids: Tensor, lengths: list[int]) -> Tensor:
        """Patches (tokens, values) of pictures with ``lengths`` tokens each -> what the decoder sees (tokens, H_u)."""
        return self.connect(self.vit_model(patches, position_ids, lengths), position_ids)

    def connect(self, seen: Tensor, position_ids: Tensor) -> Tensor:
        """The tower's features (tokens, vision H) -> what the decoder sees (tokens, H_u)."""
        return self.connector(seen) + self.vit_pos_embed(position_ids)

    def embed_latents(self, batch: Pack) -> Tensor:
        """(latent tokens, H_g): projected values + time embedding + position; time is 0 for clean latents."""
        values = self.vae2llm(batch.latents.to(self.vae2llm.weight.dtype))
        time = self.time_embedder(batch.timesteps)
        return values + time + self.latent_pos_embed(batch.latent_position_ids)
