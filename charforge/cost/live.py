"""Counting the bytes of tensors while code runs on tensors that have shapes and no memory."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class LiveBytes(TorchDispatchMode):
    """``now`` and ``peak``: bytes of the storages that were made inside the block and are still in use; ``flops``: the
    floating point operations of its products; ``kernels``: operations that compute, views aside, which is about what a
    card is asked to start.

    A storage counts once, however many views it has, from the operation that makes it until its last tensor is gone,
    as an allocator would see it (without its rounding and gaps).
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.flops = self.kernels = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor):
                # made before the block: a view of a weight takes no memory
                self._known.add(leaf.untyped_storage())
        out = func(*args, **(kwargs or {}))
        # prim asks for a property of a tensor; memory that is only taken is not written
        self.kernels += func.namespace != "prim" and not func.is_view and "empty" not in func._opname
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size
