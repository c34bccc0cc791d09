"""``charforge train``: from a character folder to a measured bundle, continuing whatever was begun."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import torch

from charforge import grammar
from charforge.adapter.lora import add_adapter, lora_config, round_to_bf16, save_adapter
from charforge.bases.base import load_base
from charforge.bases.own_pictures import own_captions
from charforge.bases.prepare import park_encoders, sized
from charforge.bases.where import find_base
from charforge.character import Character, read_character
from charforge.character.outputs import check_run_folder
from charforge.chat.session import default_device
from charforge.errors import InputError
from charforge.evaluate.requests import held_out_requests
from charforge.expand import Pair, expand, read_pairs, write_expansion, write_pairs
from charforge.expand.page import write_page
from charforge.files import sha256_file, write_atomic
from charforge.machine import bound_kernel_caches
from charforge.resources import preset_path
from charforge.settings import Settings, read_settings, settings_toml
from charforge.train.checkpoints import load_best
from charforge.train.dataset import build_dataset, prepared_pictures, prepared_strangers
from charforge.train.finish import evaluate, make_bundle
from charforge.train.given import check_pictures_of, given_pairs
from charforge.train.memory import Memory
from charforge.train.progress import Progress, peak_memory_gib
from charforge.train.report import write_report
from charforge.train.second_stage import run_scenes, second_stage, trained_pictures
from charforge.train.sft import train_sft

Stage = Literal["all", "sft", "grpo"]


@dataclass(frozen=True)
class TrainResult:
    """Where the run is, its bundle, and what was measured."""

    run: Path
    bundle: Path
    metrics: dict[str, Any]


def train_character(
    folder: Path, *, preset: str, base: str | None, out: Path | None, seed: int | None, overrides: list[str],
    quantize: str | None, pairs_file: Path | None = None, stage: Stage = "all",
) -> TrainResult:  # fmt: skip
    """The whole main job, or its first stage alone. ``pairs_file`` takes the place of the expansion.

    A run that ended with the first stage goes on with the second when it is asked for. Raises InputError for bad
    input and MachineError when base or judges cannot be had.
    """
    bound_kernel_caches()
    character = read_character(folder)
    settings = read_settings(
        preset_path(preset), folder / "charforge.toml", overrides, base=base, seed=seed, quantize=quantize
    )
    # all that is read is right before anything is created
    find_base(settings.base)
    if pairs_file is not None:
        given_pairs(pairs_file, character, settings)
    identity = run_identity(character, settings, pairs_file)
    run = out or find_run(character, identity)
    check_run_folder(folder, run)
    result_file = run / "result.json"
    slug = slug_of(character)
    both = stage != "sft" and settings.grpo.iterations > 0
    if stage == "grpo" and not result_file.exists():
        raise InputError(
            f"{run} has no finished first stage: run charforge train without --stage, or --stage sft first"
        )
    open_run(run, settings, identity)
    if result_file.exists():
        metrics = json.loads(result_file.read_text("utf-8"))
        if metrics["stage"] == "grpo" or not both:
            return TrainResult(run, run / f"{slug}.charx", metrics)

    began = time.time()
    with Progress(run) as progress:
        progress.begin("expanding", settings.sft.steps)
        pairs = run_pairs(run, character, settings, pairs_file)
        scenes = run_scenes(run, character, settings.seed)
        progress.begin(f"loading {settings.base}", settings.sft.steps)
        loaded = sized(load_base(settings.base, settings.quantize, default_device()), settings.pictures)
        progress.begin("encoding pictures", settings.sft.steps)
        pictures = prepared_pictures(loaded, character, run / "cache") | prepared_strangers(loaded, pairs)
        data = build_dataset(loaded, pairs, pictures, settings.sft)
        config = lora_config(settings.adapter.rank, settings.adapter.alpha)
        parameters = add_adapter(loaded.model, config, settings.seed)
        prompts = preview_prompts(character)
        hooks = progress.hooks(lambda step: progress.preview(loaded, prompts, step))
        if settings.memory.park_encoders:
            park_encoders(loaded)
        memory = Memory(loaded.model, settings.memory, progress.note, run / "memory.json")
        folder = run / "checkpoints"
        best = train_sft(loaded.model, parameters, data, settings.sft, settings.seed, folder, hooks, memory)
        load_best(parameters, run / "checkpoints" / "best.safetensors")
        second: dict[str, Any] = {}
        if both:
            own = trained_pictures(character, pairs, pictures)
            second = second_stage(loaded, parameters, data, scenes, own, settings, run, progress, prompts)
        round_to_bf16(parameters)
        save_adapter(loaded.model, config, run / "adapter", settings.base, torch.bfloat16)
        progress.begin("measuring", None)
        metrics = evaluate(loaded, data, held_out_requests(pairs), settings, character, run, prompts)
    metrics |= {"stage": "grpo" if both else "sft", **second}
    metrics |= {"best_step": best.step, "best_score": best.score, "train_seconds": round(time.time() - began, 1)}
    metrics["peak_memory_gib"] = round(peak_memory_gib(), 2)
    bundle = make_bundle(run / f"{slug}.charx", character, loaded, settings, run, pairs_by_task(pairs), metrics)
    write_report(run, character, settings, metrics)
    # written last: a run with a result is a finished run
    write_atomic(result_file, json.dumps(metrics, indent=2))
    return TrainResult(run, bundle, metrics)


def slug_of(character: Character) -> str:
    """The character's name as a file name."""
    return re.sub(r"[^a-z0-9]+", "-", character.name.lower()).strip("-") or "character"


def run_identity(character: Character, settings: Settings, pairs_file: Path | None = None) -> str:
    """A hash of everything that decides the result: settings, words, pictures and pairs that were given."""
    content = {
        "settings": settings.model_dump(),
        "character": {
            key: value for key, value in asdict(character).items() if key not in ("folder", "pictures", "dialogues")
        },
        "dialogues": [[asdict(turn) for turn in dialogue.turns] for dialogue in character.dialogues],
        "pictures": [(p.name, p.caption, sha256_file(p.path)) for p in character.pictures],
        "pairs": sha256_file(pairs_file) if pairs_file is not None else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def find_run(character: Character, identity: str) -> Path:
    """The latest unfinished run of the very same job, or a new folder ``runs/NAME-DATE-N``."""
    runs, slug = Path("runs"), slug_of(character)
    unfinished = [
        path.parent
        for path in runs.glob(f"{slug}-*/identity.txt")
        if path.read_text("utf-8") == identity and not (path.parent / "result.json").exists()
    ]
    if unfinished:
        return max(unfinished, key=lambda path: path.stat().st_mtime)
    number = 1
    while (run := runs / f"{slug}-{date.today():%Y%m%d}-{number}").exists():
        number += 1
    return run


def open_run(run: Path, settings: Settings, identity: str) -> None:
    """Begin or continue a run folder. Raises InputError when it belongs to another job."""
    known = run / "identity.txt"
    if known.exists():
        if known.read_text("utf-8") != identity:
            raise InputError(
                f"{run} holds a run with other settings or another character: choose a new --out, or remove it"
            )
        return
    if run.exists() and any(run.iterdir()):
        raise InputError(f"{run} is not empty and is no run of charforge: choose a new --out")
    write_atomic(run / "config.toml", settings_toml(settings))
    write_atomic(known, identity)


def run_pairs(run: Path, character: Character, settings: Settings, given: Path | None) -> list[Pair]:
    """The run's pairs; an existing file, perhaps edited by hand before continuing, is used as it is.

    Otherwise the ``given`` ones, or those of the template writer. Raises InputError for a picture that nobody sent.
    """
    file = run / "pairs" / "pairs.jsonl"
    if not file.exists():
        if given is not None:
            write_pairs(file, read_pairs(given))
        else:
            expansion = expand(character, settings.seed, strangers=own_captions(settings.base))
            write_page(file.with_suffix(".html"), character, expansion)
            write_expansion(file, expansion)
    pairs = read_pairs(file)
    check_pictures_of(pairs, character, settings)
    return pairs


def pairs_by_task(pairs: list[Pair]) -> dict[str, int]:
    """How many training pairs each task has."""
    return dict(Counter(pair.task for pair in pairs if pair.split == "train"))


def preview_prompts(character: Character) -> list[str]:
    """Four fixed scenes for previews, in the words of the character's own captions where there are some."""
    scenes = ("smiling, in a forest", "laughing, on a beach", "with wide eyes, in space", "frowning, in the snow")
    return [grammar.caption_with_name(character, scene) for scene in scenes]
