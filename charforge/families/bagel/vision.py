"""The vision tower: a SigLIP-shaped encoder over packed patches, and the connector (bagel.md section 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charforge.families.bagel.config import VisionConfig
from charforge.families.bagel.layers import unset_embedding


def patchify(image: Tensor, patch_size: int) -> Tensor:
    """(3, H, W) -> (patches, patch_size^2 * 3), patches row-major, values in (row, column, channel) order."""
    channels, height, width = image.shape
    rows, columns = height // patch_size, width // patch_size
    patches = image.view(channels, rows, patch_size, columns, patch_size)
    return patches.permute(1, 3, 2, 4, 0).reshape(rows * columns, patch_size * patch_size * channels)


class VisionAttention(nn.Module):
    """Full multi-head attention inside one image."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        """(tokens, hidden) packed image after image -> same shape."""
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if len(set(lengths)) == 1:
            stacked = (part.unflatten(0, (len(lengths), lengths[0])) for part in (query, key, value))
            q, k, v = (part.transpose(1, 2) for part in stacked)
            attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)
        else:
            pieces = zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True)
            attended = torch.cat(
                [
                    F.scaled_dot_product_attention(*(p.transpose(0, 1)[None] for p in piece))[0].transpose(0, 1)
                    for piece in pieces
                ]
            )
        return self.out_proj(attended.flatten(1))


class VisionMLP(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class VisionLayer(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.self_attn = VisionAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.mlp = VisionMLP(config)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), lengths)
        return x + self.mlp(self.layer_norm2(x))


class VisionEmbeddings(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch_embedding = nn.Linear(config.patch_size**2 * 3, config.hidden_size)
        self.position_embedding = unset_embedding(config.patches_per_side**2, config.hidden_size)

    def forward(self, patches: Tensor, position_ids: Tensor) -> Tensor:
        return self.patch_embedding(patches) + self.position_embedding(position_ids)


class VisionEncoder(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.layers))


class VisionTransformer(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.encoder = VisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=1e-6)


class VisionTower(nn.Module):
    """Patches of several images in, one feature per patch out (no pooling, no merging)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionTransformer(config)

    def forward(self, patches: Tensor, position_ids: Tensor, lengths: list[int]) -> Tensor:
        """patches (tokens, patch^2*3), position_ids (tokens,), lengths per image -> (tokens, hidden)."""
        model = self.vision_model
        x = model.embeddings(patches.to(model.embeddings.patch_embedding.weight.dtype), position_ids)
        for layer in model.encoder.layers:
            x = layer(x, lengths)
        return model.post_layernorm(x)


class Connector(nn.Module):
    """Vision features into the understanding stream."""

    def __init__(self, vision_size: int, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(vision_size, hidden_size)
        self.fc2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
