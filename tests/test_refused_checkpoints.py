"""What is wrong with a checkpoint is one sentence, said from headers alone, the same by `base add` and by loading."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from layout import CONFIG, random_state, write_checkpoint
from safetensors.torch import load_file, save_file
from test_checkpoint import load

from charforge.bases.base import load_base
from charforge.bases.verify import check_folder
from charforge.errors import InputError
from charforge.families.bagel.folder import weight_files
from charforge.tensor_headers import read_header


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as raised:
        check_folder(folder, "x")
    assert "\n" not in str(raised.value)
    # what the check says, loading says: nothing is read on the way to it
    with pytest.raises(InputError) as loading:
        load_base(str(folder))
    assert str(loading.value).replace(str(folder), "x") == str(raised.value).replace(str(folder), "x")
    return str(raised.value)


def test_a_good_folder_is_accepted_in_both_layouts(folder: Path, tmp_path: Path):
    assert check_folder(folder, "x").tokenizer.name == "tokenizer.json"
    assert check_folder(write_checkpoint(tmp_path, shards=2, tokenizer_json=False), "x").tokenizer.name == "vocab.json"


@pytest.mark.parametrize("name", ["ema.safetensors", "ae.safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, keep: int):
    folder = write_checkpoint(tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:keep])
    message = refused(folder)
    assert name in message
    assert ("is truncated" in message) if abs(keep) > 5 or keep == -1 else ("well-formed" in message)


def test_a_file_longer_than_its_header_promises_is_refused(tmp_path: Path):
    folder = write_checkpoint(tmp_path)
    with (folder / "ema.safetensors").open("ab") as file:
        file.write(b"more")
    assert "4 bytes follow its last tensor" in refused(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.int8])
def test_a_wrong_dtype_is_named(tmp_path: Path, dtype: torch.dtype):
    folder, state = write_checkpoint(tmp_path), random_state(CONFIG)
    state["llm2vae.weight"] = state["llm2vae.weight"].to(dtype)
    save_file(state, folder / "ema.safetensors")
    spelt = {torch.float64: "F64", torch.int32: "I32", torch.int8: "I8"}[dtype]
    assert f"llm2vae.weight in ema.safetensors has dtype {spelt}, expected one of F32, F16, BF16" in refused(folder)


def test_missing_unexpected_and_misshapen_keys_are_all_named(tmp_path: Path):
    folder, state = write_checkpoint(tmp_path), random_state(CONFIG)
    gone = "language_model.model.layers.1.self_attn.q_proj_moe_gen.weight"
    del state[gone]
    state["stranger"] = torch.zeros(1)
    state["connector.fc1.bias"] = torch.zeros(3)
    save_file(state, folder / "ema.safetensors")
    message = refused(folder)
    for words in (f"missing tensor {gone}", "unexpected tensor stranger", "connector.fc1.bias in ema.safetensors has"):
        assert words in message


def test_a_27th_vision_layer_is_unexpected(tmp_path: Path):
    vision = CONFIG.vision.model_copy(update={"layers": CONFIG.vision.layers + 1})
    folder = write_checkpoint(tmp_path)
    save_file(random_state(CONFIG.model_copy(update={"vision": vision})), folder / "ema.safetensors")
    assert "unexpected tensor vit_model.vision_model.encoder.layers.2." in refused(folder)


def test_an_autoencoder_that_does_not_fit_is_named(tmp_path: Path):
    folder = write_checkpoint(tmp_path)
    state = load_file(folder / "ae.safetensors")
    del state["decoder.conv_in.bias"]
    save_file(state, folder / "ae.safetensors")
    assert "missing tensor decoder.conv_in.bias" in refused(folder)


def test_a_missing_shard_is_named(tmp_path: Path):
    folder = write_checkpoint(tmp_path, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors, which is not there" in refused(folder)


def test_a_tensor_in_two_shards_is_named(tmp_path: Path):
    folder = write_checkpoint(tmp_path, shards=2)
    first, second = weight_files(folder)
    save_file(load_file(first) | {"llm2vae.bias": random_state(CONFIG)["llm2vae.bias"]}, first)
    save_file(load_file(second) | {"llm2vae.bias": random_state(CONFIG)["llm2vae.bias"]}, second)
    assert f"llm2vae.bias in {second.name} is in {first.name} as well" in refused(folder)


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": {"a": "../x"}}', '{"weight_map": {}}'])
def test_a_damaged_index_of_shards_is_one_line(tmp_path: Path, index: str):
    folder = write_checkpoint(tmp_path, shards=2)
    (folder / "model.safetensors.index.json").write_text(index)
    assert "model.safetensors.index.json" in refused(folder)


@pytest.mark.parametrize("name", ["llm_config.json", "vit_config.json", "ae.safetensors", "ema.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str):
    folder = write_checkpoint(tmp_path)
    (folder / name).unlink()
    assert f"{name} is missing" in refused(folder)


def test_a_missing_tokenizer_is_named(tmp_path: Path):
    folder = write_checkpoint(tmp_path, tokenizer_json=False)
    (folder / "merges.txt").unlink()
    assert "no tokenizer.json, nor vocab.json with merges.txt" in refused(folder)


def test_an_unreadable_tokenizer_is_one_line(tmp_path: Path):
    folder = write_checkpoint(tmp_path)
    (folder / "tokenizer.json").write_text("{")
    assert "tokenizer.json is not a readable tokenizer" in refused(folder)


@pytest.mark.parametrize("change", [{"hidden_size": "wide"}, {"num_attention_heads": 0}, {"vocab_size": None}])
def test_a_configuration_value_that_is_none_is_one_line(tmp_path: Path, change: dict):
    folder = write_checkpoint(tmp_path)
    llm = json.loads((folder / "llm_config.json").read_text()) | change
    (folder / "llm_config.json").write_text(json.dumps(llm))
    assert "configuration" in refused(folder)


def test_nf4_of_widths_that_it_cannot_hold_is_refused_before_anything_is_read(tmp_path: Path):
    expert = CONFIG.understanding.model_copy(update={"intermediate_size": 100})
    config = CONFIG.model_copy(update={"understanding": expert, "generation": expert})
    with pytest.raises(InputError, match="nf4 needs layers 64 wide"):
        load(write_checkpoint(tmp_path, config), "nf4")


# headers


def header_file(tmp_path: Path, header: bytes, data: bytes = b"") -> Path:
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
    return tmp_path / "x.safetensors"


ENTRY = '"%s": {"dtype": "%s", "shape": %s, "data_offsets": %s}'


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("a", "BF16", [2], [0, 4]), ("b", "BF16", [2], [2, 6])], "does not begin where"),
        ([("a", "BF16", [2], [0, 4]), ("b", "BF16", [1], [6, 8])], "does not begin where"),
        ([("a", "BF16", [2], [0, 4]), ("a", "BF16", [2], [4, 8])], "twice"),
        ([("a", "BF16", [3], [0, 4])], "4 bytes where its shape needs 6"),
        ([("a", "Q4", [2], [0, 4])], "unknown dtype"),
        ([("a", "BF16", [-2], [0, -4])], "a number that is none"),
        ([("a", "BF16", [2], [4])], "incomplete"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, entries: list[tuple], words: str):
    header = "{" + ", ".join(ENTRY % (n, d, json.dumps(s), json.dumps(o)) for n, d, s, o in entries) + "}"
    with pytest.raises(InputError, match=words):
        read_header(header_file(tmp_path, header.encode(), bytes(8)))


@pytest.mark.parametrize("header", [b"not json", b"[1]", b"\xff\xfe", b"{" * 9])
def test_headers_that_are_no_table_are_refused(tmp_path: Path, header: bytes):
    with pytest.raises(InputError, match="well-formed"):
        read_header(header_file(tmp_path, header))


def test_a_header_agrees_with_the_reference_reader(folder: Path):
    from safetensors import safe_open

    with safe_open(folder / "ema.safetensors", "pt") as theirs:
        ours = read_header(folder / "ema.safetensors")
        assert set(ours) == set(theirs.keys())
        assert all(list(ours[name].shape) == theirs.get_slice(name).get_shape() for name in ours)
