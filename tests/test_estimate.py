"""What a run costs, from shapes alone: bytes as an allocator counts them, parts that add up, levers that act."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from command import charforge
from folders import make_folder

from charforge.cost.live import LiveBytes
from charforge.cost.predicted import iteration_passes, predict
from charforge.cost.workload import Workload
from charforge.families.bagel.config import bagel_7b
from charforge.families.bagel.family import BAGEL
from charforge.resources import preset_names, preset_path
from charforge.settings import GrpoSettings, MemorySettings, Settings, SftSettings, read_settings

WORK = Workload(conversations=((200, 100, 60),) * 8, caption=40, targets=(1024,) * 4)
LARGE_CARDS = ("bagel-48gb", "bagel-80gb")
"""Their batches take long to count, and leave the most room."""
PRESETS = preset_names()


def test_bytes_count_once_from_the_operation_that_makes_them_until_the_last_view_is_gone():
    before = torch.zeros(1000)
    with LiveBytes() as live:
        view = before.view(10, 100)[2:]
        assert live.now == 0, "a view of what was there takes nothing"
        made = torch.ones(256)
        part = made[:8]
        assert live.now == 1024
        del made
        assert live.now == 1024, "its view keeps it"
        del part
        assert (live.now, live.peak) == (0, 1024)
        _ = view @ torch.ones(100, 5)
    assert live.flops == 2 * 8 * 100 * 5


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_readable(name: str):
    settings = read_settings(preset_path(name), None, [])
    assert settings.base == ("mini" if name == "mini" else "bagel")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGE_CARDS else [])
        for name in PRESETS
        if name.startswith("bagel-")
    ],
)
def test_the_presets_fit_the_cards_they_are_named_after(name: str):
    card = int(name.removeprefix("bagel-").removesuffix("gb"))
    settings = read_settings(preset_path(name), None, [])
    latents = (settings.pictures.longest_side // 16) ** 2
    shapes = bagel_7b().with_picture_sizes(None, None, settings.pictures.draw_side, None)
    cost = predict(
        BAGEL, shapes, settings, Workload(WORK.conversations, WORK.caption, (latents,) * 4), "cuda", torch.bfloat16
    )
    # a card of 24 GB has 24 * 10^9 bytes, some of them taken by the screen
    assert cost.gpu_peak_gib < 0.95 * card * 1e9 / 2**30
    assert sum(cost.parts.values()) == pytest.approx(cost.gpu_peak_gib, abs=0.02)


def test_weights_are_those_of_the_published_table():
    # bagel.md section 2, decoder linears quantised and the rest in bf16, without the vision tower's 0.75 GiB
    expected = {None: 27.21 - 0.75, "int8": 15.06 - 0.75, "nf4": 9.74 - 0.75}
    for kind, gib in expected.items():
        settings = Settings(quantize=kind, memory=MemorySettings(micro_batch=1), grpo=GrpoSettings(iterations=0))
        shapes = bagel_7b().with_picture_sizes(None, None, 512, None)
        cost = predict(BAGEL, shapes, settings, replace(WORK, targets=(256,)), "cuda", torch.bfloat16)
        assert cost.parts["weights"] == pytest.approx(gib, abs=0.03)


def cost_with(**memory: object):
    how = MemorySettings(**memory)  # type: ignore[arg-type]
    # two layers of the real widths
    shapes = bagel_7b().shallow(2).with_picture_sizes(None, None, 256, None)
    work = Workload(((0, 300, 60),) * 4, 8, (256,) * 4)
    return predict(BAGEL, shapes, Settings(memory=how, grpo=GrpoSettings(iterations=0)), work, "cuda", torch.bfloat16)


def test_a_system_prompt_is_read_once_for_the_texts_that_share_it():
    shapes = bagel_7b().shallow(2).with_picture_sizes(None, None, 256, None)
    settings = Settings(sft=SftSettings(steps=10_000), grpo=GrpoSettings(iterations=0))
    works = [Workload((text,) * 4, 8, (256,)) for text in ((0, 300, 60), (250, 50, 60))]
    alone, shared = (predict(BAGEL, shapes, settings, work, "cuda", torch.bfloat16) for work in works)
    assert shared.hours < 0.9 * alone.hours


def test_levers_act_on_the_part_they_are_for():
    plain, twice, one = cost_with(), cost_with(checkpoint_layers=True), cost_with(micro_batch=1)
    assert twice.parts["activations"] < plain.parts["activations"]
    assert one.parts["activations"] < plain.parts["activations"]
    assert twice.hours >= plain.hours
    assert cost_with(optimizer="adamw8bit").parts["optimiser"] <= plain.parts["optimiser"] / 3.9 + 1e-3


def test_check_and_dry_run_tell_the_cost(tmp_path):
    folder = make_folder(tmp_path / "pip")
    checked = json.loads(charforge("check", str(folder), "--json", cwd=tmp_path).stdout)
    dry = json.loads(charforge("train", str(folder), "--dry-run", "--json", cwd=tmp_path).stdout)
    assert checked["cost"] == dry["cost"]
    assert {"gpu_peak_gib", "host_peak_gib", "disk_gib", "hours"} <= set(dry["cost"])
    assert 0.5 < dry["cost"]["host_peak_gib"] < 8
    assert not (tmp_path / "runs").exists()


def test_what_makes_the_second_stage_cheaper_is_counted():
    plain = {"prompts": 4, "group": 6, "steps": 10, "window": 2, "window_last_start": 4}
    drawn, learned = iteration_passes(GrpoSettings(**plain))
    assert (drawn, learned) == (7.5 * 24 + 2.5 * 4, 2 * 24)
    assert iteration_passes(GrpoSettings(**plain, tail=2)) == (4 * 24 + 2.5 * 4, learned)
    # a tail that the grid is too short for changes nothing
    assert iteration_passes(GrpoSettings(**plain, tail=9)) == (drawn, learned)
    assert iteration_passes(GrpoSettings(**plain, extremes=1)) == (drawn, learned / 3)
    assert iteration_passes(GrpoSettings(**plain, algorithm="awm", draws=1)) == (240, 24)
    kept = GrpoSettings(**plain, algorithm="best_of", draws=2, kept_pictures=8, updates=4)
    assert iteration_passes(kept) == (480, 64)


def test_a_processor_without_bf16_is_said_to_take_longer():
    shapes = bagel_7b().shallow(2).with_picture_sizes(None, None, 256, None)
    work, settings = Workload(((0, 30, 10),), 8, (16,)), Settings(grpo=GrpoSettings(iterations=0))
    native, plain = (predict(BAGEL, shapes, settings, work, "cpu", dtype) for dtype in (torch.bfloat16, torch.float32))
    assert plain.hours > native.hours and "without bf16" in plain.assumed and "with bf16" in native.assumed
