"""charforge doctor: facts in, checks out; and one look at the machine the tests run on."""

from __future__ import annotations

import ctypes
import json
import math
import os
from dataclasses import replace
from typing import Any

import pytest
from command import charforge

from charforge.doctor import facts as facts_room
from charforge.doctor.checks import Check, can_train, checks, fitting_presets
from charforge.doctor.facts import (
    BaseFact,
    Cache,
    Facts,
    Gpu,
    Library,
    OptionalLibrary,
    Quantised,
    Reached,
    Torch,
    cuda_version,
    driver_version,
    library_facts,
    optional_fact,
    quantised_fact,
    requirements,
    without_password,
)
from charforge.machine import KERNELS_KEPT, bound_kernel_caches

CARD = Gpu("A card", 23.6, 23.0, "8.9", "12.8", bf16=True, count=1)
GOOD = Facts(
    python=(3, 12, 1),
    platform="Linux x86_64",
    cpu="A processor",
    cpus=8,
    memory_gib=31.0,
    torch=Torch("2.13.0", "13.2", True, CARD),
    quantised=(Quantised("int8", 0.01), Quantised("nf4", 0.09)),
    libraries=(Library("peft", ">=0.21,<0.22", "0.21.2", True), Library("transformers", ">=5.17", "5.17.0", True)),
    torchvision=OptionalLibrary("healthy", "0.28.0"),
    open_clip=OptionalLibrary("healthy", "3.3.0"),
    cache=Cache("/cache", 100.0, True),
    bases=(BaseFact("mini", True, ()),),
    presets=("bagel-16gb", "bagel-24gb", "bagel-48gb", "mini", "paper"),
    reached=(Reached("package index", "https://index", ""), Reached("model hub", "https://hub", "")),
)


def named(name: str, facts: Facts) -> Check:
    (check,) = (check for check in checks(facts) if check.name == name)
    return check


def test_a_good_machine_has_nothing_to_mend():
    made = checks(GOOD)
    assert can_train(made)
    assert all(check.status == "ok" and check.found and not check.remedy for check in made)
    assert named("presets", GOOD).found.startswith(
        "mini, bagel-16gb, bagel-24gb; charforge train DIR takes mini: bagel"
    )


@pytest.mark.parametrize(
    ("name", "status", "changes"),
    [
        ("Python", "missing", {"python": (3, 10, 4)}),
        ("machine", "missing", {"memory_gib": 3.7}),
        ("machine", "warning", {"memory_gib": 7.7}),
        ("torch", "missing", {"torch": Torch(None, error="OSError: libcudart.so not found")}),
        ("GPU", "warning", {"torch": Torch(None, error="OSError")}),
        ("bf16", "warning", {"torch": Torch(None, error="OSError")}),
        ("GPU", "warning", {"torch": Torch("2.13.0+cpu", None, True)}),
        ("GPU", "warning", {"torch": Torch("2.13.0", "13.2", True)}),
        ("bf16", "warning", {"torch": Torch("2.13.0+cpu", None, False)}),
        ("bf16", "warning", {"torch": Torch("2.13.0", "13.2", True, replace(CARD, bf16=False))}),
        ("threads", "warning", {"torch": Torch(None, error="OSError")}),
        ("threads", "warning", {"waiting": (("OMP_WAIT_POLICY", "active"),)}),
        ("bitsandbytes int8", "warning", {"quantised": (Quantised("int8", None, "no kernel"),)}),
        ("bitsandbytes int8", "warning", {"quantised": (Quantised("int8", 0.3),)}),
        ("bitsandbytes nf4", "warning", {"quantised": (Quantised("nf4", math.nan),)}),
        ("peft", "missing", {"libraries": (Library("peft", "<0.22", "0.23.0", False),)}),
        ("peft", "missing", {"libraries": (Library("peft", "", None, False),)}),
        ("libraries", "missing", {"libraries": ()}),
        ("torchvision", "warning", {"torchvision": OptionalLibrary("broken", problem="no torchvision::nms")}),
        ("open_clip", "warning", {"open_clip": OptionalLibrary("broken", problem="no torchvision")}),
        ("cache folder", "missing", {"cache": Cache("/cache", 100.0, False)}),
        ("cache folder", "missing", {"cache": Cache("/cache", 0.3, True)}),
        ("cache folder", "warning", {"cache": Cache("/cache", 3.0, True)}),
        ("base mini", "missing", {"bases": (BaseFact("mini", False, (), ("vision.safetensors",)),)}),
        ("base other", "warning", {"bases": (BaseFact("other", False, ("ema.safetensors is missing",)),)}),
        ("base mini", "warning", {"bases": (BaseFact("mini", False, ("tokenizer.json",)),)}),
        ("presets", "missing", {"presets": ()}),
        ("package index", "warning", {"reached": (Reached("package index", "https://index", "timed out"),)}),
        ("model hub", "warning", {"reached": (Reached("model hub", "https://hub", "timed out"),)}),
    ],
)
def test_what_is_wrong_has_a_remedy_and_only_what_mini_needs_stops_it(name: str, status: str, changes: dict):
    facts = replace(GOOD, **changes)
    check = named(name, facts)
    assert check.status == status
    assert check.found and check.remedy
    assert can_train(checks(facts)) is (status != "missing" and facts.torch.version is not None)


def test_absent_is_fine_where_broken_is_not():
    facts = replace(GOOD, torchvision=OptionalLibrary("absent"), open_clip=OptionalLibrary("absent"))
    assert named("torchvision", facts).status == named("open_clip", facts).status == "ok"


def test_threads_and_how_they_wait_are_told():
    torch = replace(GOOD.torch, threads=6)
    found = named("threads", replace(GOOD, torch=torch, waiting=(("OMP_WAIT_POLICY", "PASSIVE"),))).found
    assert found.startswith("6 of 8") and found.endswith("OMP_WAIT_POLICY=PASSIVE")


def test_presets_by_the_memory_of_the_card():
    names = ["bagel-16gb", "bagel-24gb", "bagel-48gb", "bagel-80gb", "mini", "paper"]
    assert fitting_presets(names, None) == ["mini"]
    assert fitting_presets(names, 8.0) == ["mini"]
    assert fitting_presets(names, 23.6) == ["mini", "bagel-16gb", "bagel-24gb"]
    # an L40S reports 44.4 GiB, an H100 79.1
    assert fitting_presets(names, 44.4)[-1] == "bagel-48gb"
    assert fitting_presets(names, 79.1)[-1] == "bagel-80gb"


def test_quantised_products_are_really_computed():
    int8, nf4 = quantised_fact("int8", "cpu"), quantised_fact("nf4", "cpu")
    assert 0 < int8.error < 0.05 < nf4.error < 0.2
    assert quantised_fact("fp4", "nowhere").problem


def test_libraries_are_compared_with_what_charforge_asks_for(monkeypatch: pytest.MonkeyPatch):
    assert any(line.startswith("torch>=") for line in requirements())
    monkeypatch.setattr(facts_room, "requirements", lambda: ["peft>=99", "no-such-library", "numpy; extra == 'x'"])
    found = library_facts()
    assert [(library.name, library.fits) for library in found] == [("peft", False), ("no-such-library", False)]
    assert found[1].installed is None


def test_a_library_that_cannot_be_imported_is_broken(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "lame_library.py").write_text("raise RuntimeError('operator lame::nms does not exist')")
    (tmp_path / "good_library.py").write_text("__version__ = '1.2'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert optional_fact("no_such_library").health == "absent"
    assert optional_fact("good_library") == OptionalLibrary("healthy", "1.2")
    lame = optional_fact("lame_library")
    assert lame.health == "broken" and "nms does not exist" in lame.problem


def test_small_words():
    assert cuda_version(12040) == "12.4"


class Driver:
    def __init__(self, fails: bool) -> None:
        self.fails = fails

    def cuDriverGetVersion(self, number: Any) -> int:
        number._obj.value = 13000
        return 999 if self.fails else 0


def test_the_driver_is_asked_itself_which_cuda_version_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch has had three names for it, one of which torch 2.11 on a card does not know
    for fails, told in ((False, "13.0"), (True, "unknown")):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, fails=fails: Driver(fails))
        assert driver_version() == told

    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert driver_version() == "unknown"
    assert without_password("https://me:secret@index.example/simple") == "https://index.example/simple"


def test_this_machine_can_train_mini():
    done = charforge("doctor", "--json")
    told = json.loads(done.stdout)
    assert told["ok"] is True and done.returncode == 0, told
    assert all(set(check) == {"name", "status", "found", "remedy"} for check in told["checks"])
    assert {check["status"] for check in told["checks"]} <= {"ok", "warning"}
    assert all(check["remedy"] for check in told["checks"] if check["status"] != "ok")
    # the network is left alone unless asked for
    assert not {"package index", "model hub"} & {check["name"] for check in told["checks"]}


def test_where_mini_cannot_be_trained_the_exit_code_is_three(monkeypatch: pytest.MonkeyPatch):
    from typer.testing import CliRunner

    from charforge.cli.main import app

    monkeypatch.setattr(facts_room, "collect", lambda online: replace(GOOD, python=(3, 10, 4)))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 3
    assert "install Python 3.11" in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_compiled_kernels_are_bounded_unless_the_environment_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    bound_kernel_caches()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == str(KERNELS_KEPT)
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
