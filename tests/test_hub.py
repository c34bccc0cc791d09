"""Pulling a base from a model hub: a real huggingface_hub client against a small local server."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import Hub, serving
from layout import write_checkpoint

from charforge.bases import hub as pulling
from charforge.bases.base import load_base
from charforge.bases.cache import base_folder
from charforge.bases.hub import BAGEL, pull_base
from charforge.bases.listing import list_bases
from charforge.bases.where import SOURCE
from charforge.errors import CharforgeError, InputError, MachineError

COMMIT, OTHER = "1" * 40, "2" * 40
PUBLISHED = replace(BAGEL, commit=COMMIT, known={}, optional=(*BAGEL.optional, "special_tokens.json"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_checkpoint(tmp_path_factory.mktemp("published"))
    (folder / "README.md").write_text("not needed")
    return folder


@pytest.fixture
def hub(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("CHARFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    # the client waits a second before it tries again
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    # what is not a whole chunk when the line breaks is lost: ten megabytes otherwise
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 2**16)
    with serving(Hub(BAGEL.repository, checkpoint)) as running:
        yield running


def pull(hub: Hub, revision: str | None = None, published: pulling.Published = PUBLISHED) -> Path:
    return pull_base(published, revision, hub.endpoint)


def refused(kind: type[CharforgeError], hub: Hub, **arguments: object) -> str:
    """The one line with which a pull is refused; nothing is left that looks complete."""
    with pytest.raises(kind) as raised:
        pull(hub, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert not (base_folder("bagel") / SOURCE).exists()
    return str(raised.value)


def test_a_pull_brings_the_files_that_are_needed_and_writes_down_what_they_are(hub: Hub, checkpoint: Path):
    folder = pull(hub)
    assert folder == base_folder("bagel")
    assert not (folder / "README.md").exists()
    source = json.loads((folder / SOURCE).read_text())
    assert (source["repository"], source["commit"]) == (BAGEL.repository, COMMIT)
    for name, entry in source["files"].items():
        content = (folder / name).read_bytes()
        assert content == (checkpoint / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert {file.name for file in folder.iterdir()} == {*source["files"], SOURCE}
    base = load_base("bagel")
    assert base.name == "bagel"
    assert [one.status for one in list_bases() if one.name == "bagel"] == ["ready"]


def test_a_download_cut_in_the_middle_goes_on_where_it_stopped(hub: Hub):
    hub.cut_after = {"ema.safetensors": 1_000_000}
    message = refused(MachineError, hub)
    assert "broke off" in message
    assert "goes on where it stopped" in message
    folder = base_folder("bagel")
    assert not (folder / "ema.safetensors").exists()
    (partial,) = (folder / ".incomplete").iterdir()
    kept = partial.stat().st_size
    assert 0 < kept <= 1_000_000
    bagel = next(one for one in list_bases() if one.name == "bagel")
    assert bagel.status == "incomplete"
    with pytest.raises(MachineError, match="go on with `charforge base pull bagel`"):
        load_base("bagel")

    hub.mend()
    hub.requests.clear()
    pull(hub)
    assert hub.downloads("ema.safetensors") == [f"bytes={kept}-"]
    # what had arrived whole is not fetched again
    assert hub.downloads("ae.safetensors") == []
    assert not (folder / ".incomplete").exists()


def test_a_file_with_another_hash_is_thrown_away(hub: Hub):
    hub.lie_about = "ae.safetensors"
    assert "ae.safetensors arrived with another hash" in refused(MachineError, hub)
    assert not any(base_folder("bagel").rglob("ae.safetensors*"))


def test_sizes_and_hashes_that_are_known_beforehand_are_held_against_the_hub(hub: Hub):
    published = replace(PUBLISHED, known=BAGEL.known)
    assert "the pinned commit has 29,214,685,336" in refused(MachineError, hub, published=published)
    assert hub.downloads("ema.safetensors") == []


def test_a_damaged_copy_is_mended_by_pulling_again(hub: Hub):
    folder = pull(hub)
    content = (folder / "ae.safetensors").read_bytes()
    (folder / "ae.safetensors").write_bytes(content[:-1])
    with pytest.raises(MachineError, match=r"damaged \(ae\.safetensors\).*charforge base pull bagel"):
        load_base("bagel")
    hub.requests.clear()
    pull(hub)
    assert (folder / "ae.safetensors").read_bytes() == content
    assert hub.downloads("ema.safetensors") == []


def test_a_complete_copy_needs_no_network(hub: Hub):
    pull(hub)
    hub.requests.clear()
    pull(hub)
    assert hub.requests == []


def test_a_copy_of_another_commit_is_not_replaced(hub: Hub):
    folder = pull(hub)
    hub.commit = OTHER
    for revision in (OTHER, "main"):
        with pytest.raises(InputError, match=f"--revision {COMMIT}, or delete the folder"):
            pull(hub, revision)
    assert json.loads((folder / SOURCE).read_text())["commit"] == COMMIT
    # asked for by its commit, it is simply there
    assert pull(hub, COMMIT) == folder


def test_a_branch_is_resolved_and_its_commit_written_down(hub: Hub):
    source = json.loads((pull(hub, "main") / SOURCE).read_text())
    assert (source["revision"], source["commit"]) == ("main", COMMIT)


def test_a_revision_that_does_not_exist_is_one_line(hub: Hub):
    assert "has no revision nowhere" in refused(InputError, hub, revision="nowhere")


def test_a_repository_that_does_not_exist_is_one_line(hub: Hub):
    published = replace(PUBLISHED, repository="nobody/nothing")
    assert "the hub does not give out nobody/nothing" in refused(MachineError, hub, published=published)


def test_a_hub_that_does_not_answer_is_one_line(hub: Hub):
    hub.endpoint = "http://127.0.0.1:9"
    assert "check the connection" in refused(MachineError, hub)


def test_offline_mode_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "offline mode is enabled" in refused(MachineError, hub)


def test_too_little_room_on_the_disk_is_told_before_anything_is_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(pulling.shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    message = refused(MachineError, hub)
    assert "1.1 GB" in message
    assert "CHARFORGE_CACHE" in message
    assert hub.downloads("llm_config.json") == []


def test_a_disk_that_fills_up_on_the_way_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    assert "the disk filled up" in refused(MachineError, hub)


def test_a_repository_whose_weights_do_not_fit_is_never_marked_complete(hub: Hub, tmp_path: Path, checkpoint: Path):
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    (broken / "ae.safetensors").write_bytes((checkpoint / "ae.safetensors").read_bytes()[:-4])
    hub.folder = broken
    assert "ae.safetensors is truncated" in refused(InputError, hub)


def test_a_repository_without_weights_is_no_bagel(hub: Hub, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    hub.folder = tmp_path / "empty"
    assert "ema.safetensors" in refused(MachineError, hub)


def test_without_tokenizer_json_vocabulary_and_merges_serve(hub: Hub, tmp_path: Path, checkpoint: Path):
    shutil.copytree(checkpoint, tmp_path / "old")
    (tmp_path / "old/tokenizer.json").unlink()
    hub.folder = tmp_path / "old"
    pull(hub)
    assert load_base("bagel").model.reply_tokens("a page of dialogue")


def test_two_pulls_at_once_do_not_write_into_each_other(hub: Hub):
    with pulling._one_pull_at_a_time(base_folder("bagel")), pytest.raises(MachineError, match="another process"):
        pull(hub)


def test_the_command_takes_the_hub_from_the_environment(hub: Hub):
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment["HF_ENDPOINT"] = hub.endpoint
    command = [sys.executable, "-m", "charforge.cli.main", "base", "pull", "bagel", "--revision", "nowhere"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert "has no revision nowhere" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
