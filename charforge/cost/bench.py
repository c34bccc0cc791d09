"""The whole bench: build, measure, and the headline figures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import compute_dtype
from charforge.cost.batches import plan_batch
from charforge.cost.bench_settings import bench_settings, shapes_to_measure
from charforge.cost.measured import (
    OK,
    PROMPT_WORDS,
    Bench,
    DecodeRow,
    ReplyRow,
    RolloutRow,
    SftRow,
    UpdateRow,
    measure_decode,
    measure_draw,
    measure_reply,
    measure_rollout,
    measure_sft,
    measure_update,
    profile_first_stage,
)
from charforge.cost.meter import GIB, Meter, waiting_seconds
from charforge.cost.parts import DECODING, ROLLOUT, SFT, UPDATE, Part, part, predicted_peaks
from charforge.cost.peaks import listed_peak, measured_peak
from charforge.errors import InputError, MachineError
from charforge.families.protocol import Family, Shapes, UnifiedModel
from charforge.machine import available_host_gib, cpu_name
from charforge.quantization import KINDS

Counting = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
Keep = Callable[[dict[str, Any]], None]

HEADLINE_SIZE = 4096
"""Tokens of the step behind the headline figures, or the largest that was measured below."""
DATA_SHEET = "data sheet, dense bf16"


@dataclass(frozen=True)
class Plan:
    """What is measured: tokens of steps of the first stage, pictures drawn at a time, sides in pixels of the second
    stage's pictures, replies at a time."""

    sizes: tuple[int, ...]
    batches: tuple[int, ...]
    steps_run: int
    sides: tuple[int, ...]
    replies: tuple[int, ...]
    reply_tokens: int
    repeats: int


WHOLE = Plan((2048, 4096, 8192), (1, 4), 4, (256, 512), (1, 8), 32, 2)
QUICK = Plan((512,), (1, 2), 2, (64, 128), (1, 2), 8, 1)


@dataclass
class Measured:
    """Rows as they are measured."""

    sft: list[SftRow] = field(default_factory=list)
    rollout: list[RolloutRow] = field(default_factory=list)
    update: list[UpdateRow] = field(default_factory=list)
    decode: list[DecodeRow] = field(default_factory=list)
    replies: list[ReplyRow] = field(default_factory=list)

    @property
    def peaks(self) -> list[float]:
        """GiB of all that fitted."""
        rows: list[Any] = [*self.sft, *self.rollout, *self.update, *self.decode, *self.replies]
        return [row.peak_memory_gib for row in rows if row.peak_memory_gib is not None]


def run_bench(
    name: str, precision: str | None, device: str, counting: Counting, preset: str | None = None, quick: bool = False,
    from_file: Path | None = None, profile: bool = False, compile_layers: bool = False,
    cuda_graphs: bool | None = None, keep: Keep = lambda unfinished: None,
) -> dict[str, Any]:  # fmt: skip
    """Build the shape ``name`` in ``precision`` (the preset's where None) on ``device``, measure it and return the
    result as plain values.

    ``from_file``: a folder from which the base is loaded; where it is empty or missing, files of random weights are
    written there before, and stay. ``profile``: the kernels of one step too. ``compile_layers``: with compiled layers,
    as the setting of that name has them, or the preset's; ``cuda_graphs``: the preset's where it is None.
    ``counting(what)`` opens a progress bar.
    ``keep`` is given what is measured so far after each piece of work: a run that is ended early leaves that.
    Raises InputError for unknown names and for a folder that holds something else, MachineError when the weights alone
    do not fit.
    """
    settings = bench_settings(name, preset, quick)
    precision = precision or settings.quantize or "bf16"
    if precision not in ("bf16", *KINDS):
        raise InputError(f"--precision {precision}: choose one of bf16, {', '.join(KINDS)}")
    family, shapes = shapes_to_measure(name, quick)
    weights_gib = family.weight_bytes(shapes, precision, compute_dtype(device)) / GIB
    _check_room(name, precision, device, weights_gib)
    if from_file is not None:
        with counting(f"writing {name}") as report:
            write_base(family, shapes, name, from_file, report)
    if device != "cpu":
        # the driver's own memory on the host is not the base's: have it before the meter begins
        torch.zeros(1, device=device)
    meter = Meter(device)
    with counting(f"loading {name}" if from_file else f"building {name}") as report:
        model, load_s = _build(name, family, shapes, precision, device, report, meter, from_file)
    host_peak, load_peak, held = meter.host_peak_gib(), meter.peak_gib(), meter.held_gib()
    peak, peak_source = machine_peak(device)
    measured_here = measured_peak(device, compute_dtype(device)) if peak_source == DATA_SHEET else peak
    config = lora_config(model.shapes, settings.adapter.rank, settings.adapter.alpha)
    graphs = (settings.memory.cuda_graphs if cuda_graphs is None else cuda_graphs) and meter.on_card
    plan = QUICK if quick else WHOLE
    if graphs:
        # the first two steps of a drawing are not yet run from a recording
        plan = replace(plan, steps_run=settings.grpo.steps)
    adapter = add_adapter(model.network, config, 0)
    compiled = compile_layers or settings.memory.compile_layers
    if compiled:
        model.compile_layers()
    model.use_cuda_graphs(graphs)
    bench = Bench(family, model, adapter, settings, meter, peak, plan.repeats)
    began, waited = time.perf_counter(), waiting_seconds()
    # before the second stage, which freezes a part of the adapter
    seen = profile_first_stage(bench, min(HEADLINE_SIZE, max(plan.sizes))) if profile else None
    known: dict[str, Any] = {
        "base": name, "precision": held_in(precision, model), "device": device_name(device), "quick": quick,
        "compiled": compiled, "cuda_graphs": graphs, "load_s": load_s, "host_peak_gib": host_peak,
        "weights_held_gib": held,
        "profile": asdict(seen) if seen else None,
    }  # fmt: skip
    with counting(f"measuring {name}") as report:
        found = measure(bench, plan, report, lambda rows: keep({"unfinished": True} | known | rows))
    wait_share = None
    if waited is not None and (since := waiting_seconds()) is not None:
        wait_share = (since - waited) / (time.perf_counter() - began)
    best, group, update = headline(found.sft), _largest(found.rollout, "roll_out"), found.update[-1]
    return known | {
        "loaded_from": "files" if from_file else "nothing: built in place",
        "weights_gib": weights_gib,
        "peak_memory_gib": max([load_peak, *found.peaks]),
        "own_peaks": meter.own_peaks,
        "reserved_gib": meter.reserved_gib,
        "runtime_gib": meter.runtime_gib(),
        "sft_tokens": best.tokens if best else None,
        "sft_step_s": best.step_s if best else None,
        "sft_tokens_per_s": best.tokens_per_s if best else None,
        "mfu": best.mfu if best else None,
        "mfu_of_measured_peak": best.mfu * peak / measured_here if best and best.mfu else None,
        "rollout_images_per_s": group.images_per_s,
        "update_step_s": update.step_s,
        "processor_wait_share": wait_share,
        "peak_flops": peak,
        "peak_flops_source": peak_source,
        "measured_peak_flops": measured_here,
        "sft": [asdict(row) for row in found.sft],
        "rollout": [asdict(row) for row in found.rollout],
        "update": asdict(update),
        "updates": [asdict(row) for row in found.update],
        "decode": asdict(found.decode[-1]),
        "decodes": [asdict(row) for row in found.decode],
        "replies": [asdict(row) for row in found.replies],
        "memory": [asdict(row) for row in memory_by_part(bench, precision, plan, found, held)],
        "preset": preset,
        "settings": {"memory": settings.memory.model_dump(), "adapter": settings.adapter.model_dump(),
                     "sft": settings.sft.model_dump(),
                     "grpo": settings.grpo.model_dump()},
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "bitsandbytes": version("bitsandbytes"),
    }  # fmt: skip


def measure(bench: Bench, plan: Plan, report: Callable[[int, int], None], keep: Keep) -> Measured:
    """All of ``plan``. The second stage comes last: it freezes a part of the adapter. ``keep`` gets the rows so far."""
    sides = drawable(bench.model.shapes, plan.sides)
    found = Measured()
    total = len(plan.sizes) + len(plan.replies) + 2 * len(plan.batches) + 3 * len(sides)
    done = 0

    def next_one() -> None:
        nonlocal done
        report(done, total)
        if done:
            keep(asdict(found))
        done += 1

    for size in plan.sizes:
        next_one()
        found.sft.append(measure_sft(bench, size))
    for rows in plan.replies:
        next_one()
        found.replies.append(measure_reply(bench, rows, plan.reply_tokens))
    for batch in plan.batches:
        for guidance in (False, True):
            next_one()
            found.rollout.append(measure_draw(bench, batch, guidance, plan.steps_run))
    for side in sides:
        bench.model.use_picture_sizes(None, None, side, None)
        next_one()
        group, drawn = measure_rollout(bench)
        found.rollout.append(group)
        next_one()
        found.update.append(measure_update(bench, drawn))
        next_one()
        found.decode.append(measure_decode(bench))
    report(total, total)
    return found


def drawable(shapes: Shapes, sides: tuple[int, ...]) -> list[int]:
    """``sides`` as far as the shape draws them; its own where it draws none of them."""
    return [side for side in sides if side <= shapes.largest_side] or [shapes.drawing_size[1]]


def memory_by_part(bench: Bench, precision: str, plan: Plan, found: Measured, held: float) -> list[Part]:
    """Predicted and measured GiB of the weights (``held``), and of each piece of work with all that is beside it.

    The second stage counts at the largest side.
    """
    shapes, side = bench.model.shapes, bench.side
    quantize = None if precision == "bf16" else precision
    settings = bench.settings.model_copy(update={"quantize": quantize})
    batches = [plan_batch(shapes, size) for size in plan.sizes]
    expected = predicted_peaks(
        bench.family, shapes, settings, batches, side, PROMPT_WORDS, bench.meter.device, bench.model.dtype
    )
    seen: dict[str, float | None] = {"weights": held}
    seen |= {SFT.format(row.tokens): row.peak_memory_gib for row in found.sft}
    seen[ROLLOUT.format(side)] = _largest(found.rollout, "roll_out").peak_memory_gib
    seen[UPDATE.format(side)] = found.update[-1].peak_memory_gib
    seen[DECODING.format(side)] = found.decode[-1].peak_memory_gib
    return [part(name, value, seen[name]) for name, value in expected.items()]


def _largest(rows: list[RolloutRow], code: str) -> RolloutRow:
    return [row for row in rows if row.code == code][-1]


def write_base(family: Family, shapes: Shapes, name: str, folder: Path, report: Callable[[int, int], None]) -> None:
    """Files of random weights in ``folder``, unless a base of these very shapes lies there.

    Raises InputError where something else does.
    """
    if folder.is_dir() and any(folder.iterdir()):
        if family.recognises(folder) and family.weight_bytes(family.read_shapes(folder), "bf16", torch.bfloat16) == (
            family.weight_bytes(shapes, "bf16", torch.bfloat16)
        ):
            family.check(family.files(name, folder))
            return
        raise InputError(f"--from-file {folder}: something other than {name} lies there; name a new folder")
    family.write_random_base(shapes, folder, report)


def _build(
    name: str, family: Family, shapes: Shapes, precision: str, device: str, report: Callable[[int, int], None],
    meter: Meter, from_file: Path | None,
) -> tuple[UnifiedModel, float]:  # fmt: skip
    """The model and the seconds it took. bf16 becomes fp32 on CPUs that cannot multiply it, as for a real base."""
    began, dtype = time.perf_counter(), compute_dtype(device)
    try:
        if from_file is None:
            model = family.random_model(shapes, precision, dtype, device, report)
        else:
            quantize = None if precision == "bf16" else precision
            model = family.load(family.files(name, from_file), dtype, device, quantize, 0.0, report)
            model.use_picture_sizes(None, None, shapes.drawing_size[1], None)
    except torch.OutOfMemoryError as error:
        raise MachineError(
            f"{name} in {precision} does not fit on {device_name(device)}: end other programs that use it, or choose "
            "a smaller --precision"
        ) from error
    meter.wait()
    return model, time.perf_counter() - began


def held_in(precision: str, model: UnifiedModel) -> str:
    """What the decoder's linears really are in: fp32 where bf16 was asked for and this machine cannot multiply it."""
    return "fp32" if precision == "bf16" and model.dtype == torch.float32 else precision


def _check_room(name: str, precision: str, device: str, needed_gib: float) -> None:
    """Refuse before the system begins to swap or to end processes: a CPU raises nothing that could be caught."""
    room = torch.cuda.mem_get_info()[0] / GIB if device.startswith("cuda") else available_host_gib()
    if needed_gib > room:
        smaller = "--precision nf4, or " if precision != "nf4" else ""
        raise MachineError(
            f"the weights of {name} in {precision} take {needed_gib:.1f} GiB and {room:.1f} GiB are free on "
            f"{device_name(device)}: use {smaller}--base small, or a machine with more memory"
        )


def machine_peak(device: str) -> tuple[float, str]:
    """bf16 FLOP/s of this machine, and where the figure is from."""
    listed = listed_peak(torch.cuda.get_device_name()) if device.startswith("cuda") else None
    if listed is not None:
        return listed, DATA_SHEET
    dtype = compute_dtype(device)
    return measured_peak(device, dtype), f"measured here, {str(dtype).removeprefix('torch.')} matrix product"


def device_name(device: str) -> str:
    """The card, or the processor and how many threads it was given."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    if device == "mps":
        return f"GPU of {cpu_name()}"
    return f"{cpu_name()}, {torch.get_num_threads()} of {os.cpu_count()} threads"


def headline(rows: list[SftRow]) -> SftRow | None:
    """The measured row of ``HEADLINE_SIZE`` tokens, or the largest below; None when nothing fitted."""
    fitted = [row for row in rows if row.status == OK and row.tokens <= HEADLINE_SIZE]
    return max(fitted, key=lambda row: row.tokens, default=None)
