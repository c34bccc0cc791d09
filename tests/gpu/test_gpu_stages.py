"""Both stages on the device: a tiny run, cut and continued; memory that ends; 8-bit moments; and that no loop waits for
the device more often than it must."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from on_device import flat_gradient, lively, tiny_on
from pretend import CARD, pretend_card
from rollouts import rollout_of
from tiny import tiny_data, tiny_settings
from tiny_base import SCENES, grpo_settings, tiny_judges

from charforge.adapter.lora import add_adapter, lora_config
from charforge.families.bagel.splits import TextSplit
from charforge.settings import MemorySettings
from charforge.train.grpo import GrpoHooks, learn_from, train_grpo
from charforge.train.losses import Weights, unified_gradient
from charforge.train.memory import Memory
from charforge.train.policy_gradient import policy_gradient
from charforge.train.sft import Hooks, adamw, train_sft, train_step

Values = dict[str, torch.Tensor]


class Cut(Exception):
    """Somebody pulled the plug."""


def first_stage(device: str, folder: Path, stop: int | None = None, optimizer: str = "adamw") -> Values:
    """The adapter after six steps, or after what a run that was cut and continued makes of them."""
    model = tiny_on(device)
    rank = 4 if optimizer == "adamw" else 48  # 8-bit moments begin at 4096 values a tensor
    parameters = add_adapter(model.network, lora_config(model.shapes, rank=rank, alpha=8), seed=0)

    def on_step(log: object) -> None:
        if getattr(log, "step", 0) == stop:
            raise Cut

    hooks = Hooks(on_step, lambda result, best: None, lambda step: None)
    memory = Memory(model, MemorySettings(optimizer=optimizer))  # type: ignore[arg-type]
    train_sft(model, parameters, tiny_data(), tiny_settings(), 0, folder, hooks, memory)
    return {name: parameter.detach().cpu().clone() for name, parameter in parameters.items()}


def second_stage(device: str, folder: Path, stop: int | None = None) -> Values:
    model = tiny_on(device)
    parameters = lively(model)

    def on_iteration(log: object) -> None:
        if getattr(log, "iteration", 0) == stop:
            raise Cut

    hooks = GrpoHooks(on_iteration, lambda result, best: None, lambda number: None)
    train_grpo(model, parameters, tiny_data(), SCENES, tiny_judges(model), grpo_settings(), folder, hooks)
    return {name: parameter.detach().cpu().clone() for name, parameter in parameters.items()}


def compare(ours: Values, expected: Values, tolerance: float) -> None:
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("stage", [first_stage, second_stage])
def test_a_stage_that_was_cut_ends_like_one_that_was_not(device: str, stage, tmp_path: Path) -> None:
    whole = stage(device, tmp_path / "whole")
    with pytest.raises(Cut):
        stage(device, tmp_path / "cut", stop=2)
    # sums of gradients in another order would be all that differs on a GPU
    compare(stage(device, tmp_path / "cut"), whole, 1e-5 if device == "cuda" else 0)
    assert max(value.abs().max() for name, value in whole.items() if "lora_B" in name) > 0


def test_three_steps_are_those_of_the_cpu(device: str) -> None:
    def logs(where: str) -> list[tuple[float, float, float]]:
        model = tiny_on(where)
        parameters = add_adapter(model.network, lora_config(model.shapes, rank=4, alpha=8), seed=0)
        data, settings, memory = tiny_data(), tiny_settings(), Memory(model)
        optimizer = adamw(model, parameters, settings)
        steps = [
            train_step(model, list(parameters.values()), optimizer, data, settings, 0, n, memory) for n in range(3)
        ]
        return [(log.ce, log.mse, log.gradient_norm) for log in steps]

    for ours, expected in zip(logs(device), logs("cpu"), strict=True):
        assert ours == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", ["adamw8bit", "paged_adamw8bit"])
def test_eight_bit_moments_on_a_card(cuda: str, kind: str, tmp_path: Path) -> None:
    whole = first_stage(cuda, tmp_path / "whole", optimizer=kind)
    with pytest.raises(Cut):
        first_stage(cuda, tmp_path / "cut", stop=3, optimizer=kind)
    compare(first_stage(cuda, tmp_path / "cut", optimizer=kind), whole, 1e-4)
    plain = first_stage(cuda, tmp_path / "plain")
    assert all(value.isfinite().all() for value in whole.values()) and plain.keys() == whole.keys()


# what waits for the device


def pretend_needed() -> None:
    from pretend import AVAILABLE

    if not AVAILABLE:
        pytest.skip("the pretend card needs torch 2.13")


def test_a_policy_gradient_reads_the_device_twice_however_many_pieces_it_has() -> None:
    pretend_needed()
    counted = []
    for size in (8, 1):
        with pretend_card() as reads:
            model, settings = tiny_on(CARD), grpo_settings()
            learn_from(model, lively(model))
            reads.clear()
            rollout, prompts = rollout_of(model, settings)
            assert not reads
            gains = torch.randn(8, generator=torch.Generator().manual_seed(0))
            policy_gradient(model, prompts, rollout, gains, range(2), settings.grpo, size)
            counted.append(reads.total())
    assert counted == [2, 2]


def test_a_step_reads_the_device_for_its_three_figures_and_for_nothing_else() -> None:
    pretend_needed()
    with pretend_card() as reads:
        model = tiny_on(CARD)
        parameters = lively(model)
        settings, memory = tiny_settings(), Memory(model, MemorySettings(micro_batch=1))
        optimizer = adamw(model, parameters, settings)
        reads.clear()
        train_step(model, list(parameters.values()), optimizer, tiny_data(), settings, 0, 0, memory)
        assert reads.total() == 3


# when memory ends


def long_gradient(device: str, memory: Memory, parameters: dict[str, torch.nn.Parameter]) -> torch.Tensor:
    """Of sixteen texts of a thousand tokens: what goes at a time decides what is kept."""
    generator = torch.Generator().manual_seed(0)
    texts = [
        (TextSplit(tuple(torch.randint(5, 96, (1022,), generator=generator).tolist()), loss=True),) for _ in range(16)
    ]

    def work(size: int) -> None:
        unified_gradient(memory.model, texts, [], None, Weights(1.0, 1.0), size)

    memory.fit(work, list(parameters.values()))
    found = flat_gradient(parameters)
    for parameter in parameters.values():
        parameter.grad = None
    return found


def test_a_cap_on_the_memory_is_found_and_changes_no_gradient(cuda: str) -> None:
    model, told = tiny_on(cuda), list[str]()
    parameters = lively(model)

    def peak(size: int) -> tuple[torch.Tensor, int]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        found = long_gradient(cuda, Memory(model, MemorySettings(micro_batch=size)), parameters)
        return found, torch.cuda.max_memory_reserved()

    # a first time, so that what libraries keep for themselves is there
    peak(1)
    (whole, most), (_, least) = peak(16), peak(2)
    assert most > 2 * least
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction((most + least) / 2 / total)
        memory = Memory(model, MemorySettings(micro_batch=16), told.append)
        capped = long_gradient(cuda, memory, parameters)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert told and memory.micro_batch < 16
    torch.testing.assert_close(capped, whole, rtol=1e-3, atol=1e-5)
