"""After a stage: pack the bundle, measure adapter on against off, draw what people will look at, write the report."""

from __future__ import annotations

import io
import json
import math
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import LoraConfig
from PIL import Image
from torch import nn

from charforge import __version__, grammar
from charforge.adapter.lora import rounded_to_bf16, save_adapter, with_values
from charforge.bases.base import Base
from charforge.bases.drawing import draw_prompts
from charforge.bases.origin import origin_of
from charforge.bundle import write_bundle
from charforge.bundle.manifest import (
    AdapterInfo,
    BaseInfo,
    CharacterInfo,
    ChatInfo,
    Manifest,
    TrainingInfo,
)
from charforge.character import Character
from charforge.chat.replies import sample_replies
from charforge.evaluate.requests import held_out_requests, request_replies, share_planned
from charforge.evaluate.whole import KnownReplies
from charforge.expand import Pair
from charforge.expand.scenes import Scene
from charforge.files import write_atomic, write_atomic_with
from charforge.low_rank import adapter_off
from charforge.pixels import contact_sheet, initial
from charforge.run.evaluation import evaluate_at_end
from charforge.run.folder import FAILURE, read_json
from charforge.run.progress import PREVIEW_SEED
from charforge.run.report import SHARED, About, write_report
from charforge.run.share import share_sheet
from charforge.run.sittings import Sittings
from charforge.sample import Picture
from charforge.settings import Settings
from charforge.train.samples import Dataset
from charforge.train.sft import flow_error, held_out_text

QUESTIONS = ("Hello, who are you?", "What did you do today?", "What makes you angry?")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Trained:
    """What a stage leaves to be measured and packed. ``prompts`` are drawn with and without the adapter; ``pictures``
    are the character's own, prepared."""

    run: Path
    bundle: Path
    character: Character
    settings: Settings
    base: Base
    parameters: dict[str, nn.Parameter]
    config: LoraConfig
    data: Dataset
    pairs: list[Pair]
    scenes: list[Scene]
    pictures: dict[str, Picture]
    prompts: list[str]
    about: About


def finish(
    trained: Trained, metrics: dict[str, Any], sittings: Sittings, tell: Callable[[str], None],
    report: Callable[[int, int], None], last: bool,
) -> dict[str, Any]:  # fmt: skip
    """Adapter, bundle, measures and report of a stage; returns ``metrics`` with what was measured. The ``last`` stage
    of the run ends with an evaluation, of which ``report`` counts the steps.

    The bundle comes first and again with the measures: from then on a part that fails costs itself alone. Such parts
    are told of, and stand in ``failed_parts`` with their errors.
    """
    run = trained.run
    failed: dict[str, str] = {}

    def attempt(part: str, work: Callable[[], Made]) -> Made | None:
        try:
            return work()
        except Exception as error:
            failed[part] = first_sentence(error)
            write_failure(run, part, error)
            tell(f"{part} failed ({first_sentence(error)}): run the same command again to repeat it")
            return None

    evaluation = None
    with with_values(trained.parameters, rounded_to_bf16(trained.parameters)):
        save_adapter(trained.base.model.network, trained.config, run / "adapter", trained.settings.base, torch.bfloat16)
        began = time.monotonic()
        pictures = attempt("drawing", lambda: draw(trained))
        picture_seconds = (time.monotonic() - began) / max(1, len(trained.prompts))
        avatar = pictures[0] if pictures else plain_avatar(trained.character)
        write_atomic_with(run / "avatar.png", lambda path: avatar.save(path, "PNG"))
        make_bundle(trained, metrics)
        tell(f"the bundle is written: {trained.bundle}")
        measured = attempt("measuring", lambda: evaluate(trained, pictures)) if pictures else None
        if last and pictures and trained.settings.evaluation.share > 0:
            allowed = trained.settings.evaluation.share * sittings.seconds
            evaluation = attempt(
                "the evaluation", lambda: evaluate_at_end(
                    run, trained.base, trained.settings, trained.character, trained.pairs, trained.scenes,
                    trained.pictures, allowed, picture_seconds, trained.about.command, report, known_replies(run),
                ),
            )  # fmt: skip
    if evaluation is not None:
        tell(evaluation.get("verdict") or evaluation["left_out"])
        metrics = metrics | {"evaluation": evaluation}
    if measured is not None:
        metrics = metrics | measured
        make_bundle(trained, metrics)
    metrics = metrics | {"train_seconds": round(sittings.seconds, 1), "peak_memory_gib": sittings.peak_memory_gib}
    attempt("the report", lambda: write_report(run, trained.about, metrics, measured is not None))
    return metrics | ({"failed_parts": failed} if failed else {})


def first_sentence(error: BaseException) -> str:
    """What an error says, short: CUDA's go on for a paragraph."""
    return str(error).split(". ")[0].strip() or type(error).__name__


def write_failure(run: Path, part: str, error: BaseException) -> None:
    """Leave in the run folder which part failed and where in the code, for ``charforge runs`` and for who mends it."""
    lines = "".join(traceback.format_exception(error))
    # a full disk is one of the reasons why one gets here, and the error itself is on its way to the user
    with suppress(OSError):
        write_atomic(run / FAILURE, json.dumps({"part": part, "error": str(error), "traceback": lines}, indent=1))


def plain_avatar(character: Character) -> Image.Image:
    """The character's initial on grey: a bundle needs a picture, and drawing one failed."""
    return initial(character.name)


def draw(trained: Trained) -> list[Image.Image]:
    """One picture of each of the fixed prompts, with the seeds of the previews."""
    seeds = [PREVIEW_SEED + index for index in range(len(trained.prompts))]
    return draw_prompts(trained.base.model, trained.prompts, seeds)


@dataclass(frozen=True)
class Texts:
    """Figures of held-out texts and requests, the replies to ``QUESTIONS``, and those to the requests; None where a
    run of an earlier charforge kept none."""

    figures: dict[str, Any]
    replies: list[str]
    requests: list[str] | None = None


def measure_texts(trained: Trained, state: str) -> Texts:
    """With the adapter as it is in the model; ``state`` is on or off and names the figures.

    Measured once a run and kept: neither the bare base nor what the second stage leaves alone, the adapter of the
    understanding expert, changes after the first stage.
    """
    kept = trained.run / "measured" / f"texts-{state}.json"
    if kept.exists():
        return Texts(**read_json(kept))
    model, settings = trained.base.model, trained.settings
    figures = {f"held_out_perplexity_{state}": _rounded(math.exp(held_out_text(model, trained.data)))}
    requests = held_out_requests(trained.pairs)
    asked = request_replies(model, requests, settings.chat)
    if requests:
        planned = [share_planned(pair, reply) for pair, reply in zip(requests, asked, strict=True)]
        figures[f"held_out_requests_{state}"] = round(sum(planned) / len(planned), 4)
    system, text = grammar.system_prompt(trained.character), model.text
    conversations = [[text(system, "system"), text(question, "user")] for question in QUESTIONS]
    replies = [grammar.split_plan(raw)[0] for raw in sample_replies(model, conversations, settings.chat, PREVIEW_SEED)]
    told = Texts(figures, replies, asked)
    write_atomic(kept, json.dumps(vars(told), indent=1, ensure_ascii=False))
    return told


def known_replies(run: Path) -> KnownReplies | None:
    """What :func:`measure_texts` has kept of the replies to requests; None where it was not measured."""
    files = [run / "measured" / f"texts-{state}.json" for state in ("on", "off")]
    if not all(file.exists() for file in files):
        return None
    on, off = (Texts(**read_json(file)).requests for file in files)
    return KnownReplies(on, off) if on is not None and off is not None else None


def pictures_without(trained: Trained) -> list[Image.Image]:
    """The same prompts without the adapter: drawn once a run and kept."""
    files = [trained.run / "measured" / f"off-{index}.png" for index in range(len(trained.prompts))]
    if not all(file.exists() for file in files):
        for file, picture in zip(files, draw(trained), strict=True):
            write_atomic_with(file, lambda path, picture=picture: picture.save(path, "PNG"))  # type: ignore[misc]
    return [Image.open(file) for file in files]


def measure_pictures(trained: Trained, state: str) -> dict[str, Any]:
    """The flow error of held-out pictures with the adapter as it is in the model."""
    error = flow_error(trained.base.model, trained.data.samples("held_out_pictures"), trained.settings.sft)
    return {f"held_out_image_loss_{state}": _rounded(error)}


def evaluate(trained: Trained, pictures: list[Image.Image]) -> dict[str, Any]:
    """The figures with the adapter off and on; sheets and replies of both go to the run folder. ``pictures`` are drawn
    with the adapter.
    """
    with adapter_off(trained.base.model.network):
        before, bare = measure_texts(trained, "off"), pictures_without(trained)
        figures = before.figures | measure_pictures(trained, "off")
    after = measure_texts(trained, "on")
    figures |= after.figures | measure_pictures(trained, "on")
    sheet = contact_sheet([*bare, *pictures], len(pictures), pictures[0].width)
    write_atomic_with(trained.run / "before_after.png", lambda path: sheet.save(path, "PNG"))
    shown = share_sheet(trained.character.name, trained.settings.base, trained.prompts, bare, pictures)
    write_atomic_with(trained.run / SHARED, lambda path: shown.save(path, "PNG"))
    replies = {"questions": QUESTIONS, "off": before.replies, "on": after.replies}
    write_atomic(trained.run / "replies.json", json.dumps(replies, indent=2, ensure_ascii=False))
    return figures


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def make_bundle(trained: Trained, metrics: dict[str, Any]) -> None:
    """The .charx of a stage that has ended. The model drew the avatar: no training picture leaves the machine."""
    character, base, settings = trained.character, trained.base, trained.settings
    origin = origin_of(settings.base)
    manifest = Manifest(
        charforge_version=__version__,
        created=date.today().isoformat(),
        base=BaseInfo(
            name=settings.base,
            content_hash=base.content_hash,
            precision=base.precision,
            repository=origin.repository,
            revision=origin.revision,
        ),
        adapter=AdapterInfo(
            rank=settings.adapter.rank,
            alpha=settings.adapter.alpha,
            first_layer=settings.adapter.first_layer(base.model.shapes.layers),
        ),
        character=CharacterInfo.from_character(character),
        chat=ChatInfo(**settings.chat.model_dump()),
        training=TrainingInfo(
            seed=settings.seed,
            steps=settings.sft.steps,
            best_step=metrics["best_step"],
            pairs=pairs_by_task(trained.pairs),
            settings=settings.model_dump(),
        ),
        drawing=settings.pictures,
        sampling=base.model.shapes.drawing_settings,
        evaluation={key: value for key, value in metrics.items() if "held_out" in key},
    )
    avatar = io.BytesIO()
    with Image.open(trained.run / "avatar.png") as picture:
        picture.save(avatar, "PNG")
    adapter = trained.run / "adapter"
    write_bundle(trained.bundle, manifest, adapter, character.dialogues, avatar.getvalue(), character.card)


def pairs_by_task(pairs: list[Pair]) -> dict[str, int]:
    """How many training pairs each task has."""
    return dict(Counter(pair.task for pair in pairs if pair.split == "train"))
