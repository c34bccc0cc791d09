"""A small classifier of what a picture shows, trained on renders only: the judge of the embedded base's benchmarks.

It never sees a drawing of the model, and no reward asks it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from charforge.errors import InputError
from charforge.families.bagel.checkpoint import rounded_rows, unrounded
from charforge.files import write_atomic_with
from charforge.recipe.answers import read_pictures
from charforge.recipe.network import native_autocast
from charforge.recipe.vision import word_values, words_of
from charforge.recipe.world import Look

SHIPPED = Path(__file__).parent / "probe.safetensors"
BATCH, LEARNING_RATE = 64, 1e-3
SHIFT = 2
"""Pixels by which training pictures are moved at most."""


def _block(a: int, b: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())


class Probe(nn.Module):
    """Pictures (n, 3, 128, 128) in [-1, 1] -> logits for the values of each attribute."""

    def __init__(self, values: dict[str, list[str]]) -> None:
        super().__init__()
        self.values = values
        self.layers = nn.Sequential(
            _block(3, 32, 2),
            _block(32, 32, 1),
            _block(32, 64, 2),
            _block(64, 128, 2),
            _block(128, 128, 1),
            # where in the picture matters: eyes and mouths have their places, so nothing is pooled away
            nn.Conv2d(128, 16, 1),
            nn.Flatten(),
            nn.Linear(16 * 16 * 16, 256),
            nn.ReLU(),
            nn.Dropout(0.2),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(words)) for name, words in values.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        hidden = self.layers(pictures)
        return {name: head(hidden) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Targets:
    """Per attribute the index of the true value of each picture, -1 where the picture does not have it."""

    by_name: dict[str, Tensor]


def targets_of(records: list[dict[str, Any]], values: dict[str, list[str]]) -> Targets:
    """What the renderer knows about the pictures."""
    words = [words_of(Look(**record["look"])) for record in records]
    return Targets(
        {
            name: torch.tensor([known.index(w[name]) if w.get(name) in known else -1 for w in words])
            for name, known in values.items()
        }
    )


def _soften(pictures: Tensor, rng: random.Random) -> Tensor:
    """Moved, softened, noised: drawings of a model are never as crisp as renders."""
    dx, dy = rng.randint(-SHIFT, SHIFT), rng.randint(-SHIFT, SHIFT)
    moved = torch.roll(pictures, (dy, dx), dims=(2, 3))
    size = pictures.shape[-1]
    small = rng.choice((size, size, size * 3 // 4))
    if small != size:
        moved = F.interpolate(moved, (small, small), mode="area")
        moved = F.interpolate(moved, (size, size), mode="bilinear", align_corners=False)
    return moved * rng.uniform(0.9, 1.1) + 0.04 * torch.randn(moved.shape)


def train_probe(out: Path, epochs: int, on_step: Callable[[int, int, float], None], seed: int = 0) -> dict[str, float]:
    """Train on ``out/data`` and write ``out/probe.safetensors``; returns the accuracy on held-out renders.

    Raises InputError when fewer than ``BATCH`` pictures were rendered.
    """
    data, held_out = read_pictures(out)
    if len(data.records) < BATCH:
        raise InputError(f"the probe learns from {BATCH} pictures at a time: render at least as many (--count)")
    torch.manual_seed(seed)
    probe = Probe(word_values(data))
    targets = targets_of(data.records, probe.values)
    optimizer = torch.optim.AdamW(probe.parameters(), LEARNING_RATE, weight_decay=0.01)
    steps = epochs * (len(data.records) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE * 2, total_steps=steps)
    step = 0
    for epoch in range(epochs):
        order = torch.randperm(len(data.records), generator=torch.Generator().manual_seed(seed + epoch))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH].sort().values
            pictures = _tensor(data.pixels[rows.numpy()])
            softened = _soften(pictures, random.Random(f"{seed}:{epoch}:{start}"))
            with native_autocast("cpu"):
                logits = probe(softened.contiguous(memory_format=torch.channels_last))
            loss = torch.stack(
                [
                    F.cross_entropy(logits[name].float(), target[rows], ignore_index=-1)
                    for name, target in targets.by_name.items()
                    if (target[rows] >= 0).any()
                ]
            ).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step % 50 == 0:
                on_step(step, steps, loss.item())
    metadata, state = {"values": json.dumps(probe.values)}, rounded_rows(probe.state_dict())
    write_atomic_with(out / "probe.safetensors", lambda path: save_file(state, path, metadata))
    return accuracy(probe.eval(), _tensor(held_out.pixels), targets_of(held_out.records, probe.values))


def load_probe(file: Path) -> Probe:
    """A trained probe, in evaluation mode."""
    with safe_open(file, framework="pt") as opened:
        values = json.loads(opened.metadata()["values"])
    probe = Probe(values)
    probe.load_state_dict(unrounded(load_file(file)))
    return probe.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(probe: Probe, pictures: Tensor, targets: Targets) -> dict[str, float]:
    """Share of right attributes by name, over the pictures that have the attribute."""
    logits = probe(pictures)
    result = {}
    for name, target in targets.by_name.items():
        known = target >= 0
        if known.any():
            result[name] = (logits[name].argmax(-1)[known] == target[known]).float().mean().item()
    return result


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
