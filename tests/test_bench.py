"""charforge bench: the formula against counting by hand, the builder, and the command as CI runs it."""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from command import charforge
from tiny import CONFIG, tiny_model

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import compute_dtype
from charforge.cli.bench import print_result
from charforge.cost import measured
from charforge.cost.batches import batch_flops, batch_settings, make_dataset, plan_batch
from charforge.cost.bench import headline, run_bench, write_base
from charforge.cost.bench_settings import bench_settings, shapes_to_measure
from charforge.cost.peaks import listed_peak, step_flops
from charforge.errors import InputError, MachineError
from charforge.families.bagel.checkpoint import build_empty
from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.family import BAGEL
from charforge.families.bagel.flops import adapter_flops, attention_flops, linear_flops
from charforge.families.bagel.packing import pack
from charforge.families.bagel.random_base import PRECISIONS
from charforge.families.bagel.unified import UnifiedBagel
from charforge.families.work import Tokens, drawing_tokens, pack_tokens
from charforge.settings import SftSettings
from charforge.train.samples import step_batch

HEADLINE = (
    "sft_step_s", "sft_tokens_per_s", "rollout_images_per_s", "update_step_s", "peak_memory_gib", "mfu", "load_s",
)  # fmt: skip


def nobody(*_: int) -> None:
    pass


def shape(name: str, quick: bool = False) -> BagelConfig:
    return shapes_to_measure(name, quick)[1]


def random_small(precision: str) -> UnifiedBagel:
    return BAGEL.random_model(shape("small", quick=True), precision, compute_dtype("cpu"), "cpu", nobody)


@contextmanager
def silent(_: str):
    yield nobody


def test_the_random_7b_has_the_published_number_of_parameters():
    model = build_empty(shape("bagel"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 14_607_260_128
    # GiB of bagel.md section 2, autoencoder in fp32 included
    for precision, gib in (("bf16", 27.21), ("int8", 15.06), ("nf4", 9.74)):
        assert BAGEL.weight_bytes(shape("bagel"), precision, torch.bfloat16) / 2**30 == pytest.approx(
            gib + 0.312, abs=0.02
        )


def test_flops_against_a_count_by_hand():
    # tests/tiny.py: 4 layers of width 128 (inner 192), generation of width 64 (inner 128) on two of them,
    # 4 heads and 2 key heads of 16, vocabulary 96, latents of 16 values
    und_layer = 128 * 64 + 2 * 128 * 32 + 64 * 128 + 3 * 128 * 192
    gen_layer = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128
    time_and_values = 256 * 64 + 64 * 64 + 2 * 16 * 64
    tokens = Tokens(10, 4, 3, ((14, 14),), ((10, 10),))
    by_hand = 2 * (10 * 4 * und_layer + 4 * (2 * gen_layer + time_and_values) + 3 * 128 * 96)
    assert linear_flops(CONFIG, tokens) == by_hand
    # scores and values, 2 x 2 operations, 4 heads of 16; latents take part in two of four layers
    assert attention_flops(CONFIG, tokens) == 4 * 64 * (2 * 14 * 14 + 2 * 10 * 10)
    und_lora = 2 * ((128 + 64) + 2 * (128 + 32) + (64 + 128) + 3 * (128 + 192))
    gen_lora = 2 * ((64 + 64) + 2 * (64 + 32) + (64 + 64) + 3 * (64 + 128))
    assert adapter_flops(CONFIG, tokens, rank=2) == 2 * (10 * 4 * und_lora + 4 * 2 * gen_lora)
    learned = attention_flops(CONFIG, tokens) + adapter_flops(CONFIG, tokens, 2)
    assert step_flops(CONFIG, tokens, 2) == 2 * by_hand + 3 * learned


def test_linear_flops_are_the_real_parameters_of_the_7b():
    config = shape("bagel")
    one_of_each = linear_flops(config, Tokens(1, 1, 1, (), ()))
    matrices = sum(
        p.numel()
        for name, p in build_empty(config).named_parameters()
        if p.ndim == 2 and not name.startswith(("vit_", "connector", "latent_pos")) and "embed_tokens" not in name
    )
    assert one_of_each == 2 * matrices


def test_a_drawing_step_sees_its_context():
    drawn = drawing_tokens(rows=3, latents=4, context=5)
    assert (drawn.understanding, drawn.latents, drawn.supervised) == (6, 12, 0)
    assert drawn.rows == ((6, 11),) * 3
    assert pack_tokens([(6, 4, 0), (8, 0, 2)]).rows == ((10, 10), (8, 8))


@pytest.mark.parametrize("tokens", [512, 2048, 4096, 8192])
@pytest.mark.parametrize("name", ["bagel", "mini", "small"])
def test_a_batch_has_exactly_its_tokens(name: str, tokens: int):
    config = shape(name)
    batch = plan_batch(config, tokens)
    assert batch.tokens == tokens
    assert batch.picture_tokens <= tokens // 2
    assert batch.pictures >= 1 and batch.dialogues


def test_the_7b_learns_from_one_512_picture_at_2k_and_one_1024_picture_at_8k():
    assert plan_batch(shape("bagel"), 2048).picture_side == 512
    assert plan_batch(shape("bagel"), 8192).picture_side == 1024


def test_one_step_takes_every_sample_of_the_batch_once():
    config = shape("small")
    batch = plan_batch(config, 1024)
    data = make_dataset(BAGEL, config, batch)
    texts, pictures, _ = step_batch(
        tiny_model(), data, batch_settings(SftSettings(caption_dropout=0.0), batch), seed=0, step=3
    )
    lengths = sum(len(part.ids) + 2 for sample in texts for part in sample)
    assert lengths == sum(n for n, _ in batch.dialogues)
    supervised = sum(len(part.ids) + 1 for sample in texts for part in sample if part.loss)
    assert supervised == sum(loss for _, loss in batch.dialogues)
    assert len(pictures) == batch.pictures == len({id(picture) for picture in pictures})


def test_captions_that_are_only_read_cost_less():
    config = shape("mini")
    batch = plan_batch(config, 2048)
    assert batch_flops(config, batch, 16, False) < batch_flops(config, batch, 16, True)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_random_base_of_each_precision_is_whole_and_sized_as_predicted(precision: str):
    model = random_small(precision)
    held = [p for module in (model.network, model.autoencoder) for p in module.parameters()]
    assert not any(p.is_meta or p.requires_grad for p in held)
    held_bytes = sum(p.numel() * p.element_size() for p in held)
    # scales are not parameters: 3 % of the small shape in nf4
    assert held_bytes == pytest.approx(BAGEL.weight_bytes(model.shapes, precision, model.dtype), rel=0.05)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradients_pass_through_the_base_after_it_was_used_without(precision: str):
    model = random_small(precision)
    adapter = add_adapter(model.network, lora_config(model.shapes, 4, 8), 0)
    splits = [
        list(sample) for sample in make_dataset(BAGEL, model.shapes, plan_batch(model.shapes, 512)).samples("dialogues")
    ]

    def loss() -> torch.Tensor:
        with model.autocast():
            return model.network(pack(splits, model.shapes)).logits.float().square().mean()

    with torch.no_grad():
        loss()
    loss().backward()
    # lora_B of the first layer's query is reached only through everything above it
    name = "language_model.model.layers.0.self_attn.q_proj.lora_B.default.weight"
    assert adapter[name].grad.norm() > 0


def test_random_weights_keep_activations_of_order_one():
    model = random_small("bf16")
    settings = bench_settings("small", None, True)
    bench = measured.Bench(BAGEL, model, {}, settings, None, 1.0, 1)  # type: ignore[arg-type]
    keys, values = measured._prompts(bench, 1).cache[-1]
    assert 0.1 < keys.float().std() < 10 and 0.1 < values.float().std() < 10
    assert bench.side == 128


@pytest.mark.slow
def test_what_does_not_fit_is_a_row_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch):
    def no_room(*_: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    def no_room_for_one(*_: object) -> None:
        try:
            no_room()
        except torch.OutOfMemoryError as error:
            raise MachineError("one picture at a time does not fit") from error

    monkeypatch.setattr(measured.first_stage, "train_step", no_room)
    monkeypatch.setattr(measured.second_stage, "policy_gradient", no_room_for_one)
    result = run_bench("small", "bf16", "cpu", silent, quick=True)
    assert result["sft"][0]["status"] == result["update"]["status"] == "out of memory"
    assert result["sft_step_s"] is None and result["update_step_s"] is None and result["mfu"] is None
    assert result["rollout_images_per_s"] > 0


def test_what_was_measured_before_somebody_ended_it_is_kept(monkeypatch: pytest.MonkeyPatch):
    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    kept: list[dict] = []
    monkeypatch.setattr("charforge.cost.bench.measure_rollout", ended)
    with pytest.raises(KeyboardInterrupt):
        run_bench("small", "bf16", "cpu", silent, quick=True, keep=kept.append)
    assert kept[-1]["unfinished"] and kept[-1]["base"] == "small" and kept[-1]["load_s"] > 0
    assert kept[-1]["sft"][0]["step_s"] > 0 and len(kept[-1]["rollout"]) == 4 and kept[-1]["update"] == []


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise MachineError("the gradient is not finite")

    monkeypatch.setattr(measured.first_stage, "train_step", broken)
    with pytest.raises(MachineError, match="not finite"):
        run_bench("small", "bf16", "cpu", silent, quick=True)


def test_weights_that_cannot_fit_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("charforge.cost.bench.available_host_gib", lambda: 8.0)
    with pytest.raises(MachineError, match="--precision nf4"):
        run_bench("bagel", "bf16", "cpu", silent)


@pytest.mark.slow
def test_a_base_is_loaded_from_files_that_were_written_for_it_and_found_again(tmp_path: Path):
    family, shapes = shapes_to_measure("small", quick=True)
    write_base(family, shapes, "small", tmp_path / "base", nobody)
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "base").iterdir()}
    write_base(family, shapes, "small", tmp_path / "base", nobody)
    assert before == {file.name: file.stat().st_mtime_ns for file in (tmp_path / "base").iterdir()}
    result = run_bench("small", "nf4", "cpu", silent, quick=True, from_file=tmp_path / "base")
    assert result["loaded_from"] == "files" and result["load_s"] > 0
    assert all(math.isfinite(result[key]) and result[key] > 0 for key in HEADLINE)
    assert result["sft"][0]["ce"] == pytest.approx(math.log(2048), rel=0.2)


def test_a_folder_of_something_else_is_never_written_to(tmp_path: Path):
    family, shapes = shapes_to_measure("small")
    (tmp_path / "novel.txt").write_text("mine")
    with pytest.raises(InputError, match="something other than small"):
        write_base(family, shapes, "small", tmp_path, nobody)
    assert [file.name for file in tmp_path.iterdir()] == ["novel.txt"]


def test_unknown_names_say_what_there_is():
    with pytest.raises(InputError, match="bagel, mini, small"):
        shape("nobody")
    with pytest.raises(InputError, match="bf16, int8, nf4"):
        run_bench("small", "fp4", "cpu", silent)


def test_the_headline_step_is_the_one_of_4k_tokens_or_the_largest_below():
    def row(tokens: int, status: str = "ok") -> measured.SftRow:
        return measured.SftRow(tokens, 1, 1, 512, status)

    assert headline([row(2048), row(4096), row(8192)]).tokens == 4096
    assert headline([row(2048), row(4096, "out of memory")]).tokens == 2048
    assert headline([row(2048, "out of memory")]) is None


def test_cards_are_told_apart_by_name():
    assert listed_peak("NVIDIA H100 80GB HBM3") == 989e12
    assert listed_peak("NVIDIA H100 PCIe") == 756e12
    assert listed_peak("NVIDIA L40S") == 362e12
    assert listed_peak("NVIDIA GeForce RTX 4090") == 165e12
    assert listed_peak("NVIDIA GeForce RTX 4090 Laptop GPU") is None
    assert listed_peak("NVIDIA GeForce RTX 3090 Ti") == 80e12
    assert listed_peak("some future card") is None


def test_the_command_as_programs_meet_it(tmp_path: Path):
    done = charforge(
        "bench", "--base", "small", "--quick", "--profile", "--json", "--out", str(tmp_path / "bench.json")
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == json.loads((tmp_path / "bench.json").read_text("utf-8"))
    for key in HEADLINE:
        assert math.isfinite(told[key]) and told[key] > 0, key
    assert told["host_peak_gib"] >= 0
    assert (told["base"], told["quick"]) == ("small", True)
    assert told["precision"] in ("bf16", "fp32")
    assert told["mfu"] < 1.5
    assert told["processor_wait_share"] is None or 0 <= told["processor_wait_share"] <= 1
    assert told["torch"] and told["bitsandbytes"] and told["device"]
    assert told["sft_tokens_per_s"] == pytest.approx(told["sft_tokens"] / told["sft_step_s"])
    (step,) = told["sft"]
    # untrained: near the entropy of the vocabulary, and at least the variance of the noise
    assert step["ce"] == pytest.approx(math.log(2048), rel=0.2) and 1 < step["mse"] < 10
    assert [(row["code"], row["batch"], row["guidance"]) for row in told["rollout"]] == [
        ("draw", 1, False), ("draw", 1, True), ("draw", 2, False), ("draw", 2, True), ("roll_out", 4, False),
        ("roll_out", 4, False),
    ]  # fmt: skip
    assert [row["picture_side"] for row in told["rollout"]] == [128, 128, 128, 128, 64, 128]
    assert [row["picture_side"] for row in told["updates"]] == [64, 128] and told["update"] == told["updates"][-1]
    assert [row["rows"] for row in told["replies"]] == [1, 2]
    for row in told["replies"]:
        assert row["tokens_per_s"] == pytest.approx(row["rows"] / row["token_s"]) and row["tokens"] == 8
    assert [row["part"] for row in told["memory"]] == [
        "weights", "first stage, 512 tokens", "rollout at 128²", "update at 128²", "decoding at 128²",
    ]  # fmt: skip
    # what a process holds is no exact measure of a base this small: that both are of one size says that they mean
    # the same
    assert all(0.2 < row["ratio"] < 20 for row in told["memory"]), told["memory"]
    kernels = told["profile"]["kernels"]
    assert 5 < len(kernels) <= 20 and sum(kernel["share"] for kernel in kernels) <= 1
    assert [kernel["ms"] for kernel in kernels] == sorted((kernel["ms"] for kernel in kernels), reverse=True)
    assert all(row["steps"] == 14 for row in told["rollout"])
    assert [row["steps_run"] for row in told["rollout"]] == [2, 2, 2, 2, 14, 14]
    # both go in the same batches here; on some processors the products still depend on what is beside them
    assert 0 <= told["update"]["sampling_gap_mean"] <= told["update"]["sampling_gap_max"] < 1e-2
    assert told["update"]["images_per_s"] == pytest.approx(4 / told["update_step_s"])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_quantised_shapes_run_through_both_stages(precision: str, capsys: pytest.CaptureFixture[str]):
    result = run_bench("small", precision, "cpu", silent, quick=True)
    assert result["precision"] == precision
    assert all(math.isfinite(result[key]) and result[key] > 0 for key in HEADLINE)
    assert math.isfinite(result["update"]["sampling_gap_max"])
    # the tables are for people: stdout stays empty
    print_result(result | {"sft": [*result["sft"], asdict(measured.SftRow(8192, 16, 1, 1024, "out of memory"))]})
    told = capsys.readouterr()
    assert told.out == ""
    assert "one step of the first stage" in told.err and "out of memory" in told.err and "MFU against" in told.err
