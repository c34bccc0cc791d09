"""Bases by name: the registry, ``charforge base add`` and ``list``, and hashes that are not computed twice."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from layout import CONFIG, random_state, write_checkpoint
from test_checkpoint import answers
from typer.testing import CliRunner

from charforge.bases import hashes
from charforge.bases.base import load_base
from charforge.bases.cache import base_folder, cache_folder
from charforge.bases.hashes import content_hash
from charforge.bases.where import register, registered
from charforge.cli.main import app
from charforge.errors import CharforgeError, InputError, MachineError
from charforge.files import sha256_file
from charforge.progress import byte_progress


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARFORGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "my-finetune")


def base(*arguments: str) -> object:
    """The JSON that ``charforge base ARGUMENTS --json`` prints."""
    done = CliRunner().invoke(app, ["base", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    return json.loads(done.stdout)


def listed() -> dict[str, dict]:
    return {entry["name"]: entry for entry in base("list")}  # type: ignore[attr-defined]


def refusal(*arguments: str) -> CharforgeError:
    done = CliRunner().invoke(app, ["base", *arguments])
    assert isinstance(done.exception, CharforgeError)
    assert "\n" not in str(done.exception)
    return done.exception


def test_without_anything_fetched_mini_and_bagel_are_listed():
    found = listed()
    assert list(found) == ["mini", "bagel"]
    assert all(entry["status"] == "not fetched" and not entry["ready"] for entry in found.values())
    assert "charforge base pull bagel" in found["bagel"]["missing"]
    assert found["bagel"]["path"] == str(base_folder("bagel"))


def test_a_registered_copy_is_listed_and_loaded_by_its_name(checkpoint: Path):
    added = base("add", str(checkpoint))
    assert added == listed()["my-finetune"]
    assert added["status"] == "ready"  # type: ignore[index]
    assert added["path"] == str(checkpoint)  # type: ignore[index]
    assert added["parameters"] == sum(t.numel() for t in random_state(CONFIG).values())  # type: ignore[index]
    assert added["stored"] == ["BF16"]  # type: ignore[index]
    assert added["precisions"] == ["bf16", "int8", "nf4"]  # type: ignore[index]
    assert added["bytes"] > (checkpoint / "ema.safetensors").stat().st_size  # type: ignore[index]
    by_name, by_path = load_base("my-finetune"), load_base(str(checkpoint))
    assert by_name.content_hash == by_path.content_hash
    assert torch.equal(answers(by_name.model.network), answers(by_path.model.network))


def test_nothing_is_copied_by_registering(checkpoint: Path):
    base("add", str(checkpoint))
    assert [file.name for file in cache_folder().rglob("*") if file.is_file()] == ["bases.json"]


def test_shards_can_be_registered(tmp_path: Path):
    write_checkpoint(tmp_path / "sharded", shards=3, tokenizer_json=False)
    assert base("add", str(tmp_path / "sharded"), "--name", "s")["status"] == "ready"  # type: ignore[index]


def test_a_copy_of_bagel_can_be_registered_as_bagel(checkpoint: Path):
    with pytest.raises(MachineError, match="charforge base pull bagel"):
        load_base("bagel")
    base("add", str(checkpoint), "--name", "bagel")
    assert list(listed()) == ["mini", "bagel"]
    assert listed()["bagel"]["path"] == str(checkpoint)
    assert load_base("bagel", "int8").precision == "int8"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "ae.safetensors").unlink(), "ae.safetensors is missing"),
        (lambda folder: os.truncate(folder / "ema.safetensors", 1000), "ema.safetensors is truncated"),
        (lambda folder: (folder / "llm_config.json").unlink(), "llm_config.json is missing"),
        (shutil.rmtree, "is no folder"),
    ],
)
def test_what_is_not_complete_is_refused_and_not_registered(checkpoint: Path, spoil, words: str):
    spoil(checkpoint)
    error = refusal("add", str(checkpoint))
    assert words in str(error)
    assert error.exit_code == 1
    assert registered() == {}


def test_a_registered_copy_that_breaks_later_is_listed_as_incomplete(checkpoint: Path):
    base("add", str(checkpoint))
    os.truncate(checkpoint / "ema.safetensors", 1000)
    entry = listed()["my-finetune"]
    assert entry["status"] == "incomplete"
    assert "ema.safetensors is truncated" in entry["missing"]


def test_a_registered_copy_that_is_gone_says_what_to_do(checkpoint: Path):
    base("add", str(checkpoint))
    shutil.rmtree(checkpoint)
    with pytest.raises(MachineError, match="no longer there: mount it, or register another copy"):
        load_base("my-finetune")
    assert listed()["my-finetune"]["status"] == "incomplete"


@pytest.mark.parametrize("name", ["mini", "a/b", "..", "", "-x"])
def test_names_that_mean_something_else_are_refused(checkpoint: Path, name: str):
    with pytest.raises(InputError, match="cannot be the name of a base"):
        register(checkpoint, name)


def test_a_name_is_not_taken_from_another_folder(checkpoint: Path, tmp_path: Path):
    register(checkpoint, "one")
    register(checkpoint, "one")
    with pytest.raises(InputError, match="belongs to"):
        register(tmp_path, "one")


def test_a_damaged_registry_is_one_line(checkpoint: Path):
    cache_folder().mkdir()
    (cache_folder() / "bases.json").write_text("{")
    assert "is damaged: delete it" in str(refusal("list"))


def test_only_mini_and_bagel_can_be_fetched():
    assert "charforge base add FOLDER" in str(refusal("pull", "llama"))
    assert "no --revision" in str(refusal("pull", "mini", "--revision", "main"))


def test_the_table_names_every_base(checkpoint: Path):
    base("add", str(checkpoint))
    done = CliRunner().invoke(app, ["base", "list"])
    assert done.stdout == ""
    for words in ("mini", "bagel", "my-finetune", "ready", "not fetched", str(checkpoint)):
        assert words in done.stderr


@pytest.mark.parametrize("command", ["list", "pull", "add"])
def test_every_command_shows_two_examples(command: str):
    assert CliRunner().invoke(app, ["base", command, "--help"]).stdout.count(f"charforge base {command}") >= 2


def test_nf4_is_offered_where_it_fits():
    narrow = CONFIG.understanding.model_copy(update={"intermediate_size": 100})
    assert CONFIG.precisions == ("bf16", "int8", "nf4")
    assert CONFIG.model_copy(update={"understanding": narrow}).precisions == ("bf16", "int8")


# hashes


def test_a_big_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hashes, "REMEMBER_FROM_BYTES", 4)
    file, hashed = tmp_path / "weights", []
    original = hashes.hash_blocks
    monkeypatch.setattr(hashes, "hash_blocks", lambda path, *rest: hashed.append(path) or original(path, *rest))
    file.write_bytes(b"weights")
    first = content_hash([file])
    assert content_hash([file]) == first
    assert len(hashed) == 1
    file.write_bytes(b"WEIGHTS")  # the same size
    assert content_hash([file]) != first
    assert len(hashed) == 2
    assert hashes.file_hash(file) == sha256_file(file)


@pytest.mark.parametrize("content", ["{", "[]", '{"x": 3}', '{"x": [1]}'])
def test_a_damaged_store_of_hashes_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str):
    monkeypatch.setattr(hashes, "REMEMBER_FROM_BYTES", 4)
    (tmp_path / "weights").write_bytes(b"weights")
    cache_folder().mkdir()
    (cache_folder() / "hashes.json").write_text(content)
    assert hashes.file_hash(tmp_path / "weights") == sha256_file(tmp_path / "weights")
    assert hashes._known()[str(tmp_path / "weights")][-1] == sha256_file(tmp_path / "weights")


def test_progress_of_hashing_ends_at_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hashes, "REMEMBER_FROM_BYTES", 4)
    monkeypatch.setattr(hashes, "BLOCK_BYTES", 3)
    (tmp_path / "weights").write_bytes(b"weights")
    told: list[tuple[int, int]] = []
    hashes.file_hash(tmp_path / "weights", lambda done, of: told.append((done, of)))
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_what_is_done_in_a_moment_shows_no_bar_and_no_bar_is_on_stdout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    with byte_progress("loading x") as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")
    with byte_progress("loading x", silent_for=0.0) as report:
        report(1_000_000, 2_000_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert "loading x" in err
