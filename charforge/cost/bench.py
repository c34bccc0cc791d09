"""The whole bench: build, measure, and the headline figures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import compute_dtype
from charforge.cost.bench_settings import bench_settings, shapes_to_measure
from charforge.cost.measured import (
    OK,
    Bench,
    DecodeRow,
    RolloutRow,
    SftRow,
    UpdateRow,
    measure_decode,
    measure_draw,
    measure_rollout,
    measure_sft,
    measure_update,
)
from charforge.cost.meter import GIB, Meter, waiting_seconds
from charforge.cost.peaks import listed_peak, measured_peak
from charforge.errors import MachineError
from charforge.families.protocol import Family, Shapes, UnifiedModel
from charforge.machine import available_host_gib, cpu_name

Counting = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]

SIZES, QUICK_SIZES = (2048, 4096, 8192), (512,)
HEADLINE_SIZE = 4096
"""Tokens of the step behind the headline figures, or the largest that was measured below."""
BATCHES, QUICK_BATCHES = (1, 2, 4, 8), (1, 2)
STEPS_RUN, QUICK_STEPS_RUN = 4, 2


def run_bench(
    name: str, precision: str, device: str, counting: Counting, preset: str | None = None, quick: bool = False
) -> dict[str, Any]:
    """Build the shape ``name`` in ``precision`` on ``device``, measure it and return the result as plain values.

    ``counting(what)`` opens a progress bar. Raises InputError for unknown names and MachineError when the weights
    alone do not fit.
    """
    settings = bench_settings(name, preset, quick)
    family, shapes = shapes_to_measure(name, quick)
    weights_gib = family.weight_bytes(shapes, precision, compute_dtype(device)) / GIB
    _check_room(name, precision, device, weights_gib)
    if device != "cpu":
        # the driver's own memory on the host is not the base's: have it before the meter begins
        torch.zeros(1, device=device)
    meter = Meter(device)
    with counting(f"building {name}") as report:
        model, load_s = _build(name, family, shapes, precision, device, report, meter)
    host_peak, load_peak = meter.host_peak_gib(), meter.peak_gib()
    peak, peak_source = machine_peak(device)
    config = lora_config(model.shapes, settings.adapter.rank, settings.adapter.alpha)
    bench = Bench(
        family, model, add_adapter(model.network, config, 0), settings, meter, peak, repeats=1 if quick else 3
    )
    sizes, batches = (QUICK_SIZES, QUICK_BATCHES) if quick else (SIZES, BATCHES)
    total = len(sizes) + 2 * len(batches) + 3
    done = 0
    began, waited = time.perf_counter(), waiting_seconds()
    with counting(f"measuring {name}") as report:

        def next_one() -> None:
            nonlocal done
            report(done, total)
            done += 1

        sft = []
        for size in sizes:
            next_one()
            sft.append(measure_sft(bench, size))
        rollout = []
        for batch in batches:
            for guidance in (False, True):
                next_one()
                rollout.append(measure_draw(bench, batch, guidance, QUICK_STEPS_RUN if quick else STEPS_RUN))
        next_one()
        group, drawn = measure_rollout(bench)
        rollout.append(group)
        next_one()
        update = measure_update(bench, drawn)
        next_one()
        decode = measure_decode(bench)
        report(total, total)
    wait_share = None
    if waited is not None and (since := waiting_seconds()) is not None:
        wait_share = (since - waited) / (time.perf_counter() - began)
    best = headline(sft)
    measured: list[SftRow | RolloutRow | UpdateRow | DecodeRow] = [*sft, *rollout, update, decode]
    peaks = [row.peak_memory_gib for row in measured if row.peak_memory_gib is not None]
    return {
        "base": name,
        "precision": held_in(precision, model),
        "device": device_name(device),
        "quick": quick,
        "load_s": load_s,
        "host_peak_gib": host_peak,
        "weights_gib": weights_gib,
        "peak_memory_gib": max([load_peak, *peaks]),
        "own_peaks": meter.own_peaks,
        "sft_tokens": best.tokens if best else None,
        "sft_step_s": best.step_s if best else None,
        "sft_tokens_per_s": best.tokens_per_s if best else None,
        "mfu": best.mfu if best else None,
        "rollout_images_per_s": group.images_per_s,
        "update_step_s": update.step_s,
        "processor_wait_share": wait_share,
        "peak_flops": peak,
        "peak_flops_source": peak_source,
        "sft": [asdict(row) for row in sft],
        "rollout": [asdict(row) for row in rollout],
        "update": asdict(update),
        "decode": asdict(decode),
        "settings": {"adapter": settings.adapter.model_dump(), "sft": settings.sft.model_dump(),
                     "grpo": settings.grpo.model_dump()},
        "torch": torch.__version__,
        "bitsandbytes": version("bitsandbytes"),
    }  # fmt: skip


def _build(
    name: str, family: Family, shapes: Shapes, precision: str, device: str, report: Callable[[int, int], None],
    meter: Meter,
) -> tuple[UnifiedModel, float]:  # fmt: skip
    """The model and the seconds it took. bf16 becomes fp32 on CPUs that cannot multiply it, as for a real base."""
    began = time.perf_counter()
    try:
        model = family.random_model(shapes, precision, compute_dtype(device), device, report)
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
        return listed, "data sheet, dense bf16"
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
