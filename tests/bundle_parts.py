"""The parts of a small bundle: an adapter of two tensors, an avatar, a manifest."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
from PIL import Image

from charforge.bundle import Manifest
from charforge.bundle.manifest import AdapterInfo, BaseInfo, CharacterInfo, ChatInfo, TrainingInfo

A = "base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_A.weight"
B = "base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_B.weight"
RANK = 2


def safetensors(tensors: dict[str, np.ndarray], dtype: str = "F32", extra: bytes = b"") -> bytes:
    header, body = {}, b""
    for name, array in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + body + extra


def adapter_bytes(layer: int = 0) -> bytes:
    a, b = (name.replace("layers.0", f"layers.{layer}") for name in (A, B))
    return safetensors({a: np.ones((RANK, 8), "<f4"), b: np.ones((8, RANK), "<f4")})


def png(size: tuple[int, int] = (8, 8)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


def manifest() -> Manifest:
    return Manifest(
        charforge_version="0.1.0",
        created="2026-11-23",
        base=BaseInfo(name="nobodys", content_hash="ab" * 32, precision="bfloat16"),
        adapter=AdapterInfo(rank=RANK, alpha=4),
        character=CharacterInfo(
            name="Pip", class_noun="clay robot", persona="Kind.", voice="Beeps.", appearance="Round.", opening="Beep!",
            author="me", license="CC0-1.0", facts=("Pip lives in a jar.",),
        ),
        chat=ChatInfo(temperature=0.7, top_p=0.9, max_tokens=50),
        training=TrainingInfo(seed=1, steps=2, best_step=2, pairs={"vqa": 3}, settings={}),
        evaluation={"perplexity": 3.5, "image_loss": None},
    )  # fmt: skip
