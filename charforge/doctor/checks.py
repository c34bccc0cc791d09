"""Facts into checks. ``missing`` means that `mini` cannot be trained here; ``warning`` that something else cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from charforge.auto import MINI_GIB, Card, choose_preset, fitting
from charforge.doctor.facts import BaseFact, Cache, Facts, Library, OptionalLibrary, Quantised, Reached, Torch
from charforge.machine import WAIT_POLICY

Status = Literal["ok", "warning", "missing"]

PYTHON = (3, 11)
COMFORTABLE_GIB = 8.0
# a run, its cache and the language weights of `mini`
DISK_GIB, COMFORTABLE_DISK_GIB = 1.0, 5.0
# rounding of random weights: int8 is off by under 2 %, nf4 by about 9 %; more means that something is wrong
LARGEST_ERROR = {"int8": 0.05, "nf4": 0.2}
INSTALL = "pip install --upgrade charforge"


@dataclass(frozen=True)
class Check:
    """One line of the report. ``remedy`` is empty only when there is nothing to mend."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def checks(facts: Facts) -> list[Check]:
    """Everything worth a line, in the order in which a person would look."""
    return [
        python_check(facts),
        machine_check(facts),
        torch_check(facts.torch),
        gpu_check(facts.torch),
        bf16_check(facts.torch),
        threads_check(facts),
        *(quantised_check(one) for one in facts.quantised),
        *library_checks(facts.libraries),
        torchvision_check(facts.torchvision),
        open_clip_check(facts.open_clip),
        cache_check(facts.cache),
        *(base_check(base) for base in facts.bases),
        presets_check(facts),
        *(network_check(one) for one in facts.reached),
    ]


def can_train(made: Sequence[Check]) -> bool:
    """Whether `mini` can be trained here."""
    return all(check.status != "missing" for check in made)


def python_check(facts: Facts) -> Check:
    """Python is new enough."""
    found = ".".join(map(str, facts.python))
    if facts.python[:2] < PYTHON:
        return Check("Python", "missing", found, f"install Python {PYTHON[0]}.{PYTHON[1]} or newer")
    return Check("Python", "ok", found)


def machine_check(facts: Facts) -> Check:
    """Memory for a run of `mini`."""
    found = f"{facts.platform}, {facts.cpu}, {facts.cpus} threads, {facts.memory_gib:.1f} GiB of memory"
    if facts.memory_gib < MINI_GIB:
        return Check("machine", "missing", found, f"use a machine with {COMFORTABLE_GIB:.0f} GiB of memory")
    if facts.memory_gib < COMFORTABLE_GIB:
        return Check("machine", "warning", found, "end other programs before training: mini takes 5.3 GiB")
    return Check("machine", "ok", found)


def torch_check(torch: Torch) -> Check:
    """PyTorch can be imported."""
    if torch.version is None:
        return Check("torch", "missing", torch.error, "pip install --force-reinstall 'torch>=2.11,<3'")
    return Check("torch", "ok", f"{torch.version}, {f'CUDA {torch.cuda_build}' if torch.cuda_build else 'CPU only'}")


def gpu_check(torch: Torch) -> Check:
    """A card, and a build and driver that reach it. `mini` needs none."""
    if torch.gpu is not None:
        gpu = torch.gpu
        others = f", first of {gpu.count}" if gpu.count > 1 else ""
        memory = f"{gpu.memory_gib:.1f} GiB ({gpu.free_gib:.1f} free)"
        found = f"{gpu.name}{others}, {memory}, compute {gpu.capability}, driver for CUDA {gpu.driver}"
        return Check("GPU", "ok", found)
    if torch.version is None:
        return Check("GPU", "warning", "unknown without torch", "mend torch first")
    if torch.cuda_build is None:
        remedy = "for a GPU: pip install --force-reinstall torch with CUDA (pytorch.org); mini needs none"
        return Check("GPU", "warning", "this torch is built for CPUs only", remedy)
    remedy = "with an NVIDIA card: install or update its driver, then nvidia-smi has to show it; mini needs none"
    return Check("GPU", "warning", f"none that torch (CUDA {torch.cuda_build}) can reach", remedy)


def bf16_check(torch: Torch) -> Check:
    """Where bf16 is multiplied natively."""
    if torch.version is None:
        return Check("bf16", "warning", "unknown without torch", "mend torch first")
    if torch.gpu is not None and not torch.gpu.bf16:
        remedy = "use a card of compute capability 8.0 or more for bagel; mini trains here"
        return Check("bf16", "warning", f"not on {torch.gpu.name}", remedy)
    places = [name for name, has in (("GPU", torch.gpu is not None), ("CPU", torch.cpu_bf16)) if has]
    if not places:
        remedy = "nothing to mend: the CPU computes in fp32, about three times slower"
        return Check("bf16", "warning", "not on this CPU", remedy)
    return Check("bf16", "ok", f"native on {' and '.join(places)}")


def threads_check(facts: Facts) -> Check:
    """How many threads compute on the CPU, and whether those that wait leave their core to others."""
    if facts.torch.version is None:
        return Check("threads", "warning", "unknown without torch", "mend torch first")
    policy = ", ".join(f"{name}={value}" for name, value in facts.waiting) or "OpenMP's own waiting"
    found = f"{facts.torch.threads} of {facts.cpus} for computing (--threads changes it), {policy}"
    if any((name, value.upper()) == (WAIT_POLICY, "ACTIVE") for name, value in facts.waiting):
        remedy = f"unset {WAIT_POLICY}: threads that spin make a step many times slower beside other programs"
        return Check("threads", "warning", found, remedy)
    return Check("threads", "ok", found)


def quantised_check(one: Quantised) -> Check:
    """bitsandbytes multiplies and gets about the right result."""
    name = f"bitsandbytes {one.kind}"
    remedy = "pip install --force-reinstall 'bitsandbytes>=0.50,<0.51', or train without --quantize"
    if one.error is None:
        return Check(name, "warning", one.problem, remedy)
    found = f"a product is off by {100 * one.error:.1f} %"
    # `not <=` so that nan is wrong too
    if not one.error <= LARGEST_ERROR[one.kind]:
        return Check(name, "warning", f"{found}, {100 * LARGEST_ERROR[one.kind]:.0f} % is the most", remedy)
    return Check(name, "ok", found)


def library_checks(libraries: Sequence[Library]) -> list[Check]:
    """One line for all libraries that fit, one for each that does not."""
    if not libraries:
        return [Check("libraries", "missing", "charforge's own requirements cannot be read", INSTALL)]
    wrong = [
        Check(
            library.name,
            "missing",
            f"{library.installed or 'not installed'}, needed: {library.required or 'any version'}",
            f"pip install '{library.name}{library.required}'",
        )
        for library in libraries
        if not library.fits
    ]
    shown = ("transformers", "peft", "safetensors", "accelerate", "bitsandbytes")
    right = [library for library in libraries if library.fits]
    named = ", ".join(f"{library.name} {library.installed}" for library in right if library.name in shown)
    line = f"{len(right)} of {len(libraries)} as required" + (f": {named}" if named else "")
    return [Check("libraries", "ok", line), *wrong] if right else wrong


def torchvision_check(one: OptionalLibrary) -> Check:
    """Absent is fine, broken is not: transformers then fails where it would work without."""
    if one.health == "broken":
        remedy = "pip uninstall torchvision, or install the one that belongs to this torch"
        return Check("torchvision", "warning", f"broken ({one.problem}): worse than none", remedy)
    return Check("torchvision", "ok", one.version or "not installed, not needed")


def open_clip_check(one: OptionalLibrary) -> Check:
    """Optional: one part of the reward."""
    if one.health == "broken":
        return Check("open_clip", "warning", f"broken ({one.problem})", "pip install 'charforge[gpu]', or leave it out")
    return Check("open_clip", "ok", one.version or "not installed: only rewards that set reward.clip need it")


def cache_check(cache: Cache) -> Check:
    """Room, and permission to write."""
    found = f"{cache.folder}, {cache.free_gib:.1f} GiB free"
    elsewhere = "set CHARFORGE_CACHE to a folder of your own"
    if not cache.writable:
        return Check("cache folder", "missing", f"{found}, not writable", elsewhere)
    if cache.free_gib < DISK_GIB:
        return Check("cache folder", "missing", found, f"free some disk, or {elsewhere} on another disk")
    if cache.free_gib < COMFORTABLE_DISK_GIB:
        return Check("cache folder", "warning", found, f"free some disk, or {elsewhere} on another disk")
    return Check("cache folder", "ok", found)


def base_check(base: BaseFact) -> Check:
    """A base can be loaded, or fetched."""
    name = f"base {base.name}"
    if base.packaged_missing:
        gone = ", ".join(base.packaged_missing)
        return Check(name, "missing", f"the installation lacks {gone}", f"{INSTALL} --force-reinstall --no-deps")
    if not base.fetched:
        return Check(name, "ok", f"not fetched, and mini does not need it; {base.missing[0]}")
    if base.missing and base.name != "mini":
        return Check(name, "warning", base.missing[0], "charforge base list says more")
    if base.missing:
        return Check(name, "warning", "language weights not here yet (98 MB)", f"charforge base pull {base.name}")
    return Check(name, "ok", "ready")


def fitting_presets(names: Sequence[str], gpu_gib: float | None) -> list[str]:
    """Presets that this machine can run: ``mini`` anywhere, those that name a card where there is one as large."""
    return [*(name for name in names if name == "mini"), *fitting(names, gpu_gib or 0.0)]


def presets_check(facts: Facts) -> Check:
    """What can be trained here, and what is taken unless a preset is named."""
    gpu = facts.torch.gpu
    able = fitting_presets(facts.presets, gpu.memory_gib if gpu else None)
    if not able:
        return Check("presets", "missing", "none that runs here", f"{INSTALL} --force-reinstall --no-deps")
    cards = [Card(gpu.name, gpu.memory_gib, gpu.free_gib)] if gpu else []
    ready = {base.name for base in facts.bases if base.ready}
    choice = choose_preset(cards, facts.memory_gib, ready, facts.presets)
    return Check("presets", "ok", f"{', '.join(able)}; charforge train DIR takes {choice.preset}: {choice.sentence}")


def network_check(one: Reached) -> Check:
    """Asked only with ``--online``."""
    if not one.problem:
        return Check(one.name, "ok", f"{one.address} answers")
    remedy = {
        "package index": "check the network, a proxy (HTTPS_PROXY) or the index (PIP_INDEX_URL)",
        "model hub": "check the network, a proxy (HTTPS_PROXY) or the endpoint (HF_ENDPOINT); mini needs no hub",
    }[one.name]
    return Check(one.name, "warning", f"{one.address}: {one.problem}", remedy)
