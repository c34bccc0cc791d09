"""Predicted against measured peak memory of a training step on this CPU, for scaled-down shapes of the 7B base.

    python docs/studies/memory_prediction.py

Each shape is measured in a process of its own: random weights, three real steps of the first stage with AdamW, the
largest resident memory. Predictions come from shapes alone, as in ``charforge check``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict

import torch

from charforge.adapter.lora import add_adapter, lora_config
from charforge.cost.predicted import Texts, predict, step_samples
from charforge.cost.workload import Workload
from charforge.families.bagel.config import AutoencoderConfig, BagelConfig, ExpertConfig, SpecialTokens, VisionConfig
from charforge.families.bagel.family import Bagel
from charforge.machine import peak_memory_gib
from charforge.settings import AdapterSettings, GrpoSettings, MemorySettings, PictureSettings, Settings, SftSettings
from charforge.train.losses import Weights, unified_gradient
from charforge.train.optimizers import make_optimizer

SHAPES = {
    # hidden, layers, latent tokens, words a reply, samples at a time, layers computed twice
    "512 wide, 8 layers": (512, 8, 256, 120, 64, False),
    "512 wide, 8 layers, layers twice": (512, 8, 256, 120, 64, True),
    "768 wide, 6 layers, two at a time": (768, 6, 256, 300, 2, False),
    "1024 wide, 4 layers, 1024 latents": (1024, 4, 1024, 60, 2, False),
    "1024 wide, 12 layers, layers twice": (1024, 12, 256, 120, 4, True),
}


def shape_of(name: str) -> tuple[BagelConfig, Settings, Workload]:
    """Configuration, settings and step of one line of the table."""
    hidden, layers, latents, words, size, twice = SHAPES[name]
    expert = ExpertConfig(hidden_size=hidden, intermediate_size=hidden * 5)
    config = BagelConfig(
        layers=layers, heads=hidden // 64, kv_heads=hidden // 256, head_dim=64, vocab_size=16_384,
        understanding=expert, generation=expert,
        vision=VisionConfig(hidden_size=128, intermediate_size=256, heads=2, layers=2),
        autoencoder=AutoencoderConfig(channels=(32, 64, 64, 64), layers_per_block=1),
        special_tokens=SpecialTokens(bos=1, eos=2, image_start=3, image_end=4),
    )  # fmt: skip
    settings = Settings(
        adapter=AdapterSettings(rank=16),
        sft=SftSettings(dialogues=4, knowledge=1, looks=1, replay_texts=1, pictures=2, replay_pictures=2, draws=1),
        grpo=GrpoSettings(iterations=0),
        pictures=PictureSettings(draw_side=256),
        memory=MemorySettings(micro_batch=size, checkpoint_layers=twice),
    )
    return config, settings, Workload(((0, words, words),) * 7, 40, (latents,) * 2)


def measure(name: str) -> float:
    """Peak GiB of this process over three steps, without its imports."""
    config, settings, work = shape_of(name)
    torch.set_num_threads(1)
    # what the first products allocate for good
    torch.randn(64, 64).bfloat16() @ torch.randn(64, 64).bfloat16()
    before = resident_gib()
    model = Bagel().random_model(config, "bf16", torch.bfloat16, "cpu", lambda done, of: None)
    parameters = list(add_adapter(model.network, lora_config(config, settings.adapter.rank, 16), 0).values())
    model.recompute_layers = settings.memory.checkpoint_layers
    optimizer = make_optimizer([{"params": parameters, "lr": 1e-4}], "adamw", (0.9, 0.95))
    texts, pictures, noise = step_samples(Texts(Bagel(), config), work, settings.sft)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            unified_gradient(
                model, texts, pictures, noise, Weights(0.25, 1.0), settings.memory.micro_batch, 1024, True
            )  # fmt: skip
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return peak_memory_gib() - before


def resident_gib() -> float:
    """Resident memory now."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096 / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description="Predicted against measured memory of a training step.")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--measure", choices=SHAPES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps({"gib": measure(arguments.measure)}))
        return
    for name in arguments.shapes:
        config, settings, work = shape_of(name)
        parts = asdict(predict(Bagel(), config, settings, work, "cpu", torch.bfloat16))["parts"]
        predicted = sum(parts[key] for key in ("weights", "adapter", "optimiser", "activations", "allocator"))
        command = [sys.executable, __file__, "--measure", name]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        found = json.loads(printed)["gib"]
        print(
            f"{name:40} predicted {predicted:.3f}  measured {found:.3f} GiB  ratio {predicted / found:.2f}", flush=True
        )


if __name__ == "__main__":
    main()
