"""``python -m charforge.recipe bench``: all parts, one JSON."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charforge.bases.base import load_base
from charforge.families.bagel.unified import UnifiedBagel
from charforge.families.protocol import UnifiedModel
from charforge.judges.encoders import load_encoder
from charforge.recipe.answers import Pictures, answer_accuracy
from charforge.recipe.autoencoder import load_photos, photo_crops, psnr
from charforge.recipe.bench.fewshot import draw_controls, draw_pictures, pool_characters, train_few_shot
from charforge.recipe.bench.scores import chances, frechet_distance, mean_share, read_attributes, shares, tally
from charforge.recipe.bench.talk import chat_perplexity_ratio
from charforge.recipe.bench.unseen import choose_captions, stated_words
from charforge.recipe.drawing import draw
from charforge.recipe.network import take_apart
from charforge.recipe.probe import Probe, load_probe
from charforge.recipe.world import Look, random_look


@dataclass(frozen=True)
class Size:
    """How much is asked. The frozen benchmark is the default; ``QUICK`` is for a look and for CI."""

    captions: int = 200
    questions_about: int = 200
    characters: int = 20
    photos: int = 64


QUICK = Size(captions=16, questions_about=16, characters=0, photos=8)
Report = Callable[[str], None]


def bench(probe_file: Path, work: Path, size: Size, overrides: list[str], report: Report) -> dict[str, Any]:
    """Every key of the benchmark, and details. ``overrides`` are settings of the few-shot training."""
    probe, base = load_probe(probe_file), load_base("mini")
    parts = take_apart(base)
    report(f"drawing {size.captions} unseen captions")
    result = measure_drawing(base.model, probe, size.captions)
    report(f"asking about {size.questions_about} unseen renders")
    result |= measure_answers(parts, size.questions_about)
    report("autoencoder and talk")
    result |= measure_autoencoder(parts, size)
    talk = chat_perplexity_ratio(base)
    result |= {"chat_perplexity_ratio": talk["ratio"], "chat_perplexity": talk}
    characters = []
    for number in range(size.characters):
        report(f"few-shot character {number + 1} of {size.characters}")
        characters.append(train_few_shot(number, probe, work, overrides))
    if characters:
        report("captions of others without an adapter")
        result |= pool_characters(characters, draw_controls(base.model, probe))
    return result | {"size": asdict(size), "overrides": overrides}


def measure_drawing(model: UnifiedModel, probe: Probe, count: int) -> dict[str, Any]:
    """Attributes of drawings of unseen captions; beside them what the probe sees in renders of the same looks."""
    asked = choose_captions(count)
    looks, wanted = [look for look, _ in asked], [stated_words(look) for look, _ in asked]
    pictures = draw_pictures(model, [text for _, text in asked], first_seed=0)
    renders = render_looks(looks)
    hits, ceiling = tally(read_attributes(probe, pictures), wanted), tally(read_attributes(probe, renders), wanted)
    encoder = load_encoder("efficientnet-lite0", torch.device("cpu"))
    others = render_looks([look for look, _ in choose_captions(2 * count)[count:]])
    features, truth, other = (encoder.encode(part) for part in (pictures, renders, others))
    return {
        "t2i_attribute_accuracy": mean_share(hits),
        "t2i_by_attribute": shares(hits),
        "t2i_chance": chances(wanted),
        "probe_on_renders": mean_share(ceiling),
        "probe_by_attribute": shares(ceiling),
        "frechet_distance": frechet_distance(features, truth),
        "frechet_distance_between_renders": frechet_distance(other, truth),
    }


def measure_answers(parts: UnifiedBagel, count: int) -> dict[str, Any]:
    """Questions about unseen renders, answered greedily and compared exactly."""
    rng = random.Random("benchmark: questions")
    looks = [random_look(rng) for _ in range(count)]
    pixels = ((render_looks(looks).permute(0, 2, 3, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    records = [{"look": asdict(look)} for look in looks]
    return dict(answer_accuracy(parts.network, parts.tokenizer, Pictures(pixels, records), count))


def measure_autoencoder(parts: UnifiedBagel, size: Size) -> dict[str, Any]:
    """Mean PSNR in dB of unseen drawings and of unseen photographs."""
    drawings = (render_looks([look for look, _ in choose_captions(size.photos)]) + 1) / 2
    side = drawings.shape[-1]
    photos = photo_crops(load_photos(held_out=True), size.photos, side, torch.Generator().manual_seed(7))
    return {
        "psnr_drawings": round(psnr(parts.autoencoder, drawings), 2),
        "psnr_photos": round(psnr(parts.autoencoder, photos), 2),
    }


def render_looks(looks: list[Look]) -> torch.Tensor:
    """Renders (n, 3, 128, 128) in [-1, 1]."""
    pixels = np.stack([np.asarray(draw(look)) for look in looks])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
