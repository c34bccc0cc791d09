"""``charforge train``: from a character folder to a measured bundle, continuing whatever was begun."""

from __future__ import annotations

import errno
import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

from charforge import grammar
from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.context import fitted
from charforge.bases.where import find_base
from charforge.character import Character, read_character
from charforge.character.outputs import check_run_folder
from charforge.device import chosen_device
from charforge.errors import InputError, MachineError
from charforge.expand import Pair, expand, read_pairs, write_expansion, write_pairs
from charforge.expand.authors import author_of, planned
from charforge.expand.endpoint import Endpoint
from charforge.expand.looking import look, read_looked, with_looks, write_looked
from charforge.expand.page import write_page
from charforge.expand.scenes import write_new_scenes, write_scenes
from charforge.files import write_atomic
from charforge.judges.judges import check_references, check_rewards
from charforge.machine import bound_kernel_caches
from charforge.progress import say_line
from charforge.replay.shipped_pictures import own_captions
from charforge.resources import preset_path
from charforge.run.finish import Trained, finish, write_failure
from charforge.run.folder import (
    FIRST_CHECKPOINT,
    TRAINING,
    check_base,
    check_run,
    find_run,
    is_complete,
    keep_base,
    open_run,
    read_result,
    set_aside,
    slug_of,
)
from charforge.run.forecast import outlook
from charforge.run.given import check_pictures_of, given_pairs
from charforge.run.helper import Errand, lend_a_hand
from charforge.run.identity import inputs_of
from charforge.run.lease import Hold
from charforge.run.live import LivePage
from charforge.run.metrics import read_metrics
from charforge.run.progress import Progress, peak_memory_gib
from charforge.run.report import About, about
from charforge.run.second_stage import run_scenes, second_stage, trained_names
from charforge.run.shared import SharedBase
from charforge.run.sittings import Sittings
from charforge.run.tracking import Tracking, check_tracker
from charforge.settings import Settings, read_settings
from charforge.train.checkpoints import load_best
from charforge.train.dataset import build_dataset, prepared_pictures, prepared_strangers
from charforge.train.interrupt import Interruption
from charforge.train.memory import Memory
from charforge.train.sft import train_sft
from charforge.train.team import find_team
from charforge.train.trunk import texts_read_once

LOOKED = "looked.json"
"""Beside the pairs: what the writer saw in pictures without captions."""
Stage = Literal["all", "sft", "grpo"]


@dataclass(frozen=True)
class TrainResult:
    """Where the run is, its bundle, and what was measured; ``finished_before``: there was nothing left to do."""

    run: Path
    bundle: Path
    metrics: dict[str, Any]
    finished_before: bool = False


def train_character(
    folder: Path, *, preset: str, base: str | None, out: Path | None, seed: int | None, overrides: list[str],
    quantize: str | None, pairs_file: Path | None = None, stage: Stage = "all", restart: bool = False,
    device: str | None = None, shared: SharedBase | None = None, again: str | None = None,
) -> TrainResult:  # fmt: skip
    """The whole main job, or its first stage alone. ``pairs_file`` takes the place of the expansion,
    ``device`` that of the best one that is here, ``shared`` keeps the base for the characters that follow, ``again`` is
    the command that goes on (None: that of this character alone).

    A run that was interrupted goes on; one that ended with the first stage goes on with the second when that is asked
    for; with ``restart`` the folder of either is set aside and the run begins anew. Raises InputError for bad input,
    MachineError when base, judges or device cannot be had or the second stage failed, and Interrupted on a signal.
    """
    bound_kernel_caches()
    team = find_team(chosen_device(device))
    character = read_character(folder)
    settings = read_settings(
        preset_path(preset), folder / "charforge.toml", overrides, base=base, seed=seed, quantize=quantize
    )
    # all that is read is right before anything is created
    find_base(settings.base)
    character = fitted(character, settings)
    if pairs_file is not None:
        given_pairs(pairs_file, character, settings)
    inputs = inputs_of(character, pairs_file)
    both = stage != "sft" and settings.grpo.iterations > 0
    if both and team.size > settings.grpo.prompts:
        raise InputError(
            f"{team.size} processes cannot share the {settings.grpo.prompts} scenes of an iteration: start fewer "
            "processes, or set grpo.prompts to a multiple of their number"
        )
    run = out or find_run(Path("runs"), character, settings, inputs, both)
    check_run_folder(folder, run)
    if not team.writes:
        helped = lend_a_hand(team, character, settings, device)
        return TrainResult(helped or run, run / f"{slug_of(character)}.charx", {}, finished_before=helped is None)
    bundle = run / f"{slug_of(character)}.charx"
    command = again or f"charforge train {shlex.quote(str(folder))} --out {shlex.quote(str(run))}"
    prompts = preview_prompts(character)
    go_on = f"To go on: {command}, other options as before."
    if restart:
        set_aside(run)
    check_run(run, settings, inputs)
    check_base(run, settings.base)
    metrics = read_result(run)
    if stage == "grpo" and metrics is None:
        raise InputError(
            f"{run} has no finished first stage: run charforge train without --stage, or --stage sft first"
        )
    # what has been through both stages stays so
    both = both or (metrics is not None and metrics["stage"] == "grpo")
    if metrics is not None and is_complete(run, both, bundle):
        team.told(None)
        return TrainResult(run, bundle, metrics, finished_before=True)
    if both:
        check_rewards(settings.reward)
    check_tracker(settings)

    @cache
    def described() -> About:
        return about(character, settings, prompts, shlex.join(["charforge", *sys.argv[1:]]))

    with (
        full_disk_in_words(go_on, run),
        open_run(run, settings, inputs, say_line) as hold,
        failure_kept(run, TRAINING, hold),
        Sittings(run / "sittings.json", peak_memory_gib) as sittings,
        LivePage(run, described, say_line, hold.check) as live,
        Tracking(run, settings, say_line) as tracking,
        Progress(run, sittings.keep, hold.check, live.keep, tracking.log) as progress,
        Interruption(progress.note, go_on, together=team.size > 1) as stop,
        ExitStack() as borrowed,
    ):
        progress.begin("expanding", settings.sft.steps)
        pairs = run_pairs(run, character, settings, pairs_file, progress, chosen_device(device))
        # what the writer saw in the pictures is part of the character from here on
        character = with_looks(character, read_looked(run / "pairs" / LOOKED))
        scenes = run_scenes(run, character, settings.seed)
        if both:
            check_references(len(trained_names(character, pairs)))
        progress.begin(f"loading {settings.base}", settings.sft.steps)
        loaded, own_samples = borrowed.enter_context((shared or SharedBase()).lent(settings, chosen_device(device)))
        keep_base(run, settings.base, loaded.content_hash)
        model = loaded.model
        if both:
            # a side that it cannot draw is known before anything is trained
            model.canvas(settings.grpo.side)
        progress.begin("encoding pictures", settings.sft.steps)
        own_pictures = prepared_pictures(loaded, character, run / "cache")
        pictures = own_pictures | prepared_strangers(loaded, pairs)
        data = build_dataset(loaded, pairs, pictures, settings.sft, own_samples)
        first_layer = settings.adapter.first_layer(model.shapes.layers)
        data = texts_read_once(model, data, first_layer)
        config = lora_config(model.shapes, settings.adapter.rank, settings.adapter.alpha, first_layer=first_layer)
        parameters = add_adapter(model.network, config, settings.seed)
        if settings.memory.park_encoders:
            model.park_encoders()
        model.use_cuda_graphs(settings.memory.cuda_graphs)
        if settings.memory.compile_layers:
            model.compile_layers()
        trained = Trained(
            run, bundle, character, settings, loaded, parameters, config, data, pairs, scenes, own_pictures, prompts,
            described(),
        )  # fmt: skip

        def finished(told: dict[str, Any], last: bool) -> dict[str, Any]:
            progress.begin("measuring", None)
            measured = finish(trained, told, sittings, progress.note, progress.count, last)
            # written last: a run with a result has finished the stage that it names
            write_atomic(run / "result.json", json.dumps(measured, indent=2))
            return measured

        hooks = progress.hooks(lambda step: progress.preview(loaded, prompts, step))
        memory = Memory(model, settings.memory, progress.note, run / "memory.json")
        checkpoints = run / "checkpoints"
        # pairs, pictures and what the base replays are there: the other processes of a job can begin
        team.told(Errand(run.absolute(), both))
        if team.size > 1:
            progress.note(f"{team.size} processes share the samples of each step")
        best = train_sft(model, parameters, data, settings.sft, settings.seed, checkpoints, hooks, memory, stop, team)
        load_best(parameters, checkpoints / "best.safetensors")
        ahead = outlook(read_metrics(run), settings.sft)
        first = {"stage": "sft", "best_step": best.step, "best_score": best.score, "learned_by_heart": ahead.by_heart}
        first["forecast"] = None if ahead.forecast is None else asdict(ahead.forecast)
        # a bundle of the second stage is not replaced by one of the first, whatever part of its finish is repeated
        if not bundle.exists() or metrics is None or (metrics["stage"] == "sft" and "failed_parts" in metrics):
            metrics = finished(first, last=not both)
        if both:
            own = {name: pictures[name] for name in trained_names(character, pairs)}
            # the first stage is measured and packed: the others wait for this
            team.told(None)
            try:
                second = second_stage(
                    loaded, parameters, data, scenes, own, settings, run, progress, prompts, stop, team
                )
            except Exception as error:
                raise second_stage_failed(error, bundle, go_on) from error
            metrics = finished({**first, "stage": "grpo", **second}, last=True)
    return TrainResult(run, bundle, metrics)


@contextmanager
def failure_kept(run: Path, part: str, hold: Hold) -> Iterator[None]:
    """Leave in the run folder what ended the run, for ``charforge runs``; nothing in one that is another process's."""
    try:
        yield
    except Exception as error:
        if hold.lost is None:
            write_failure(run, part, error)
        raise


@contextmanager
def full_disk_in_words(go_on: str, run: Path) -> Iterator[None]:
    """A full disk as a sentence. All writes are atomic: what was written before stands, where ``run`` has come to its
    first checkpoint."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = f" ({error.filename})" if error.filename else ""
        begun = (run / FIRST_CHECKPOINT).exists()
        stands = f"What was saved before stands. {go_on}" if begun else "Nothing was trained yet: begin it again."
        raise MachineError(f"the disk is full{where}: make room. {stands}") from error


def second_stage_failed(error: Exception, bundle: Path, go_on: str) -> InputError | MachineError:
    """The same error, with what stands and how to go on."""
    said = (
        f"the second stage failed: {str(error) or type(error).__name__}. The first stage's bundle is whole and ready "
        f"to use: {bundle}. {go_on}"
    )
    return InputError(said) if isinstance(error, InputError) else MachineError(said)


class _Tells(Protocol):
    """What the expansion tells while it goes on: :class:`Progress`, or nobody in tests."""

    def begin(self, name: str, total: int | None) -> None: ...

    def note(self, line: str) -> None: ...

    def count(self, done: int, total: int) -> None: ...


def run_pairs(
    run: Path, character: Character, settings: Settings, given: Path | None, tell: _Tells, device: str = "cpu"
) -> list[Pair]:
    """The run's pairs; an existing file, perhaps edited by hand before continuing, is used as it is.

    Otherwise the ``given`` ones, or those that the writer of the preset makes: what a language model wrote is kept in
    the run, and not asked again when the run goes on. Raises InputError for a picture that nobody sent.
    """
    file = run / "pairs" / "pairs.jsonl"
    if not file.exists():
        if given is not None:
            write_pairs(file, read_pairs(given))
        else:
            if settings.expand.writer != "template":
                tell.note(f"the writer {settings.expand.writer}: {planned(character, settings).line()}")
            author = author_of(character, settings, file.with_name("written.jsonl"), tell.count, device)
            if author is not None and author.sight is not None:
                looked = look(character, author.complete, author.sight)
                if looked.why_not:
                    tell.note(looked.why_not)
                write_looked(file.with_name(LOOKED), looked)
                character = with_looks(character, looked)
            expansion = expand(character, settings.seed, author, own_captions(settings.base))
            if author is not None and isinstance(author.complete, Endpoint):
                tell.note(author.complete.spent.line(author.complete.settings))
            write_page(file.with_suffix(".html"), character, expansion)
            if expansion.scenes:
                every = [*write_new_scenes(character, settings.seed), *expansion.scenes]
                write_scenes(file.with_name("scenes.jsonl"), every)
            write_expansion(file, expansion)
    pairs = read_pairs(file)
    check_pictures_of(pairs, character, settings)
    return pairs


def preview_prompts(character: Character) -> list[str]:
    """Four fixed scenes for previews, in the words of the character's own captions where there are some."""
    scenes = ("smiling, in a forest", "laughing, on a beach", "with wide eyes, in space", "frowning, in the snow")
    return [grammar.caption_with_name(character, scene) for scene in scenes]
