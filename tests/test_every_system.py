"""charforge where there is no /proc, no ``resource``, no folder that can be opened, and a console without Unicode."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from folders import make_folder
from test_bundle import DIALOGUES, RANK, adapter_bytes, manifest, png

from charforge import device as device_room
from charforge import files as files_room
from charforge import machine
from charforge.bases.base import compute_dtype
from charforge.bundle import write_bundle
from charforge.character import read_character
from charforge.device import chosen_device, default_device, multiplies_bf16
from charforge.errors import InputError, MachineError
from charforge.files import write_atomic
from charforge.recipe.network import native_autocast
from charforge.resources import preset_path
from charforge.run.folder import open_run
from charforge.run.identity import inputs_of
from charforge.settings import read_settings

HERE = Path(__file__).parent


def elsewhere(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "other_system.py"), *arguments]
    paths = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    surroundings = {**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8", **environment}
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", cwd=cwd, env=surroundings, timeout=300,
        check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "my characters 🐕 'n' é"
    make_folder(place / "pip")
    (place / "adapter").mkdir()
    (place / "adapter/adapter_model.safetensors").write_bytes(adapter_bytes())
    (place / "adapter/adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 4}), "utf-8"
    )
    write_bundle(place / "pip.charx", manifest(), place / "adapter", DIALOGUES, png())
    settings = read_settings(preset_path("mini"), None, [])
    with open_run(place / "runs/pip-1", settings, inputs_of(read_character(place / "pip"), None)):
        (place / "runs/pip-1/metrics.jsonl").touch()
    return place


def test_every_module_can_be_imported():
    done = elsewhere("import")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


@pytest.mark.parametrize(
    "command",
    [["check", "pip", "--json", "--no-cost"], ["inspect", "pip.charx", "--json"], ["runs", "--json"]],
    ids=lambda command: command[0],
)
def test_commands_work_in_a_folder_with_any_name(folder: Path, command: list[str]):
    done = elsewhere(*command, cwd=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert command[0] != "runs" or [Path(run["run"]).name for run in told["runs"]] == ["pip-1"]


def test_a_console_without_unicode_shows_escapes_and_json_stays_whole(folder: Path):
    character = manifest().character.model_copy(update={"name": "Pīp 🐕"})
    named = manifest().model_copy(update={"character": character})
    write_bundle(folder / "pip.charx", named, folder / "adapter", DIALOGUES, png())
    plain = elsewhere("inspect", "pip.charx", cwd=folder, PYTHONIOENCODING="cp1252")
    assert plain.returncode == 0 and plain.stderr.startswith(r"P\u012bp \U0001f415, clay robot"), plain.stderr
    told = elsewhere("inspect", "pip.charx", "--json", cwd=folder, PYTHONIOENCODING="cp1252")
    assert json.loads(told.stdout)["character"]["name"] == "Pīp 🐕"


def test_files_are_written_where_folders_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.open

    def refused(path: Path, *arguments: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", refused)
    write_atomic(tmp_path / "deep" / "a 🐕.txt", "ä\n")
    assert (tmp_path / "deep" / "a 🐕.txt").read_bytes() == "ä\n".encode()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a 🐕.txt"]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_finished_file_has_the_permissions_of_any_other(tmp_path: Path):
    (tmp_path / "other").touch()
    write_atomic(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize(("system", "refusals", "written"), [("nt", 3, True), ("nt", 99, False), ("posix", 1, False)])
def test_on_windows_a_file_that_is_open_elsewhere_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, refusals: int, written: bool
):
    left, real = [refusals], Path.replace

    def replace(self: Path, target: Path) -> Path:
        if left[0]:
            left[0] -= 1
            raise PermissionError(13, "the file is open in another program")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(files_room, "SYSTEM", system)
    monkeypatch.setattr(files_room, "REPLACE_WAIT", 0)
    if written:
        write_atomic(tmp_path / "x", "new")
        assert (tmp_path / "x").read_text("utf-8") == "new"
    else:
        with pytest.raises(PermissionError):
            write_atomic(tmp_path / "x", "new")
        assert list(tmp_path.iterdir()) == []


def test_without_a_kept_peak_the_largest_that_was_seen_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "_kept_peak", lambda: None)
    monkeypatch.setattr(machine, "_seen_gib", 0.0)
    before = machine.peak_memory_gib()
    # pages of its own: an allocator might give some that are counted already
    with mmap.mmap(-1, 128 << 20) as block:
        block.write(b"1" * len(block))
        during = machine.peak_memory_gib()
    assert machine.peak_memory_gib() == pytest.approx(during) and during >= before + 0.03


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        ({}, None),
        ({"memory.max": "max", "memory.current": "5", "memory.stat": "anon 5"}, None),
        ({"memory.max": "4294967296", "memory.current": "3221225472", "memory.stat": "x 1\ninactive_file 1073741824"},
         (4, 2)),
        ({"memory/memory.limit_in_bytes": str((1 << 63) - 4096), "memory/memory.usage_in_bytes": "5",
          "memory/memory.stat": "total_inactive_file 0"}, None),
    ],
)  # fmt: skip
def test_memory_of_a_container(tmp_path: Path, files: dict[str, str], limits: tuple[float, float] | None):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    assert machine.cgroup_memory(tmp_path) == limits


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_device_is_a_card_then_apples_gpu_then_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert default_device() == chosen_device(None) == expected


def test_a_device_that_is_asked_for_has_to_be_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert chosen_device("cpu") == "cpu" and chosen_device("cuda:1") == "cuda:1" and chosen == [1]
    with pytest.raises(MachineError, match="2 CUDA cards"):
        chosen_device("cuda:2")
    with pytest.raises(MachineError, match="use --device cpu"):
        chosen_device("mps")
    with pytest.raises(InputError, match="use cpu, cuda"):
        chosen_device("gpu")


@pytest.mark.parametrize("works", [True, False])
def test_apples_gpu_computes_in_bf16_only_where_that_works(monkeypatch: pytest.MonkeyPatch, works: bool):
    monkeypatch.setattr(device_room, "_right_product", lambda device: works)
    assert multiplies_bf16("mps") is works
    assert compute_dtype("mps") == (torch.bfloat16 if works else torch.float32)


def test_the_probe_is_a_real_product():
    device_room._right_product.cache_clear()
    assert device_room._right_product("cpu") is True
    assert device_room._right_product("meta") is False
    device_room._right_product.cache_clear()


def test_autocast_takes_a_numbered_card():
    with warnings.catch_warnings():
        # that there is no card here
        warnings.simplefilter("ignore")
        assert native_autocast("cuda:1").device == "cuda"
