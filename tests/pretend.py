"""A card that is none: tensors that say they are on ``card:0`` and compute on the CPU.

What was left on the wrong device is found without a GPU: a tensor of the host beside one of the card raises, as it does
with CUDA. What would make the host wait for a GPU is counted, with the line of charforge that asked (``Reads``).

    with pretend_card() as reads:
        model.network.to(CARD)
        ...
        assert not reads

Needs the Python backend for PrivateUse1 of torch 2.13 (experimental there): ``AVAILABLE`` says whether it is here.
Not covered: bf16 under autocast (compute in fp32), bitsandbytes, memory, and of course every real kernel.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

import charforge

CARD, HOST = "card:0", torch.device("cpu")
# beside a real card it must not be set up: autograd would ask it for the streams of the other
AVAILABLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend") and not torch.cuda.is_available()


class _Backend:
    """What torch asks of the module of a kind of device. Outside :func:`pretend_card` there is none: other tests in the
    same process must not meet it."""

    present = False

    def is_initialized(self) -> bool:
        return self.present

    def is_available(self) -> bool:
        return self.present

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return int(self.present)

    def manual_seed_all(self, seed: int) -> None:
        """Every number comes from generators of the host."""

    def get_rng_state(self, device: object) -> torch.Tensor:
        return torch.zeros(0, dtype=torch.uint8)

    def set_rng_state(self, state: torch.Tensor, device: object) -> None:
        """See :meth:`manual_seed_all`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Asked by recomputed layers, which restore an autocast that was off."""
        return [torch.bfloat16]

    def _is_in_bad_fork(self) -> bool:
        return False


_backend = _Backend()
if AVAILABLE:

    class _Hook(backend_registration._DummyPrivateUse1Hook):
        def is_available(self) -> bool:
            return _backend.present

    backend_registration._setup_privateuseone_for_python_backend("card", _backend, _Hook())

Reads = Counter[str]
"""How often each line of charforge made the host wait for the card: ``train/grpo.py:120 item``."""

_reads: Reads = Counter()
_WAITS = {
    "aten::_local_scalar_dense": "item",
    "aten::nonzero": "nonzero",
    "aten::equal": "equal",
    "aten::is_nonzero": "item",
    "aten::masked_select": "masked_select",
    "aten::_unique2": "unique",
}
_INDEXING = (
    "aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index",
    "aten::_unsafe_index_put",
)  # fmt: skip
_HOME = Path(charforge.__file__).parent
_make_tensor, _attention = torch.tensor, F.scaled_dot_product_attention


class OnCard(torch.Tensor):
    """A tensor of the card; ``inner`` holds its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnCard:
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=torch.device(CARD), requires_grad=inner.requires_grad,
        )  # fmt: skip

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    def __repr__(self, **_: Any) -> str:
        return f"OnCard({self.inner!r})"

    # an exchange of the values behind a tensor goes past the dispatcher
    @property
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        if not isinstance(value, OnCard) or (value.dtype, value.shape) != (self.dtype, self.shape):
            raise TypeError(f"{value.dtype} {tuple(value.shape)} on {value.device} cannot stand in for {self!r}")
        self.inner = value.inner

    def __getitem__(self, index: Any) -> torch.Tensor:
        return torch.Tensor.__getitem__(self, _listed(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        torch.Tensor.__setitem__(self, _listed(index), value)

    def tolist(self) -> Any:
        _wait("tolist")
        return self.inner.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a tensor of a card cannot become a numpy array: use .cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl


def _listed(index: Any) -> Any:
    """Lists in an index as tensors of the host, as torch would make them below the dispatcher."""
    if isinstance(index, tuple):
        return tuple(map(_listed, index))
    return _make_tensor(index) if isinstance(index, list) else index


def _wait(what: str) -> None:
    """Note the line of charforge, or of a test, that made the host wait."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(_HOME):
            _reads[f"{file.relative_to(_HOME)}:{frame.f_lineno} {what}"] += 1
            return
        frame = frame.f_back


def _check_devices(func: Any, name: str, args: tuple[Any, ...], flat: list[Any]) -> None:
    """Raise RuntimeError where tensors of the host stand beside tensors of the card."""
    beside = [leaf for leaf in flat if isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnCard)]
    if name in _INDEXING and isinstance(args[0], OnCard):
        # indices may be on the host
        beside = [leaf for leaf in beside if not any(leaf is index for index in args[1])]
    for leaf in beside:
        # one number may come from anywhere
        if leaf.ndim > 0:
            raise RuntimeError(f"{func}: all tensors must be on one device, found {CARD} and cpu {tuple(leaf.shape)}")


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    flat, spec = tree_flatten((args, kwargs))
    on_card = any(isinstance(leaf, OnCard) for leaf in flat)
    name = func.name().split(".")[0]
    moves = name in ("aten::_to_copy", "aten::copy_")
    if on_card:
        if not moves:
            _check_devices(func, name, args, flat)
        if name in _WAITS:
            _wait(_WAITS[name])
        elif name in _INDEXING and any(isinstance(i, OnCard) and i.dtype == torch.bool for i in args[1]):
            _wait("index by a mask")
        elif name == "aten::repeat_interleave" and kwargs.get("output_size") is None:
            _wait("repeat_interleave by counts")
    device = kwargs.get("device")
    stays = on_card if device is None else torch.device(device).type == "card"
    if name == "aten::copy_":
        stays = isinstance(args[0], OnCard)
    if moves and on_card and not stays:
        _wait("to the host")
    plain_args, plain_kwargs = tree_unflatten([leaf.inner if isinstance(leaf, OnCard) else leaf for leaf in flat], spec)
    if device is not None and torch.device(device).type == "card":
        plain_kwargs["device"] = HOST
    plain_args = tuple(HOST if isinstance(a, torch.device) and a.type == "card" else a for a in plain_args)
    out = func(*plain_args, **plain_kwargs)
    if name.endswith("_") and args and isinstance(args[0], torch.Tensor):
        return args[0]
    return tree_map(lambda t: OnCard(t) if type(t) is torch.Tensor else t, out) if stays else out


class _Factories(TorchDispatchMode):
    """What makes a tensor from nothing has no tensor of the card among its arguments: seen here."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _is_card(device: Any) -> bool:
    return device is not None and torch.device(device).type == "card"


@contextmanager
def pretend_card() -> Iterator[Reads]:
    """Inside the block there is a card named ``CARD``; yields the reads, which count from zero."""
    real_generator, real_autocast = torch.Generator, torch.autocast

    class CardGenerator(real_generator):  # type: ignore[misc, valid-type]
        device = torch.device(CARD)

    def tensor(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        made = _make_tensor(*args, device=None if _is_card(device) else device, **kwargs)
        return OnCard(made) if _is_card(device) else made

    def autocast(kind: str, *args: Any, enabled: bool = True, **kwargs: Any) -> Any:
        if kind != "card":
            return real_autocast(kind, *args, enabled=enabled, **kwargs)
        if enabled:
            raise RuntimeError("the pretend card computes in fp32: load the base in it")
        return nullcontext()

    class Generator(real_generator):  # type: ignore[misc, valid-type]
        def __new__(cls, device: Any = "cpu") -> torch.Generator:
            return real_generator.__new__(CardGenerator) if _is_card(device) else real_generator(device)

    def attention(*args: Any, **kwargs: Any) -> torch.Tensor:
        # fused kernels of real cards return heads that lie beside each other: no view of it joins heads and rows
        return _attention(*args, **kwargs).transpose(1, 2).contiguous().transpose(1, 2)

    _reads.clear()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(F, "scaled_dot_product_attention", attention))
        for name, stand_in in (("tensor", tensor), ("autocast", autocast), ("Generator", Generator)):
            stack.enter_context(mock.patch.object(torch, name, stand_in))
        # tensors with a Python class cannot be views in inference mode
        no_inference = mock.patch.object(
            torch._C, "_InferenceMode", lambda on: torch.no_grad() if on else nullcontext()
        )
        stack.enter_context(no_inference)
        stack.enter_context(mock.patch.object(torch.accelerator, "synchronize", lambda *_: None))
        stack.enter_context(mock.patch.object(_backend, "present", True))
        # a card's backward pass has a thread of its own, in which the mode below does not act
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(_Factories())
        yield _reads
