"""One base for a whole cast: loaded for the first character, lent to one after the other, given back bare."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from charforge.adapter.lora import remove_adapter
from charforge.bases.base import Base, load_base, use_picture_sizes
from charforge.settings import Settings
from charforge.train.dataset import OWN, MakesOwn
from charforge.train.samples import Entry


class SharedBase:
    """Keeps one base in memory, and what it replays of its own.

    Another one takes its place when a character asks for another base, precision, device, or sizes of pictures.
    """

    def __init__(self) -> None:
        self._asked: tuple[object, ...] | None = None
        self._base: Base | None = None
        self._own: dict[str, list[Entry]] = {}

    @contextmanager
    def lent(self, settings: Settings, device: str) -> Iterator[tuple[Base, Mapping[str, MakesOwn]]]:
        """The base with the settings' sizes of pictures, and what makes its own samples, as long as the block lasts.

        Afterwards the adapter is taken off: the next character finds the base as the first one did. A base on which
        a character failed is not lent again: nobody knows what state it is in. Raises as ``load_base`` and
        ``use_picture_sizes`` do.
        """
        memory = (settings.memory.park_encoders, settings.memory.compile_layers, settings.memory.cuda_graphs)
        asked = (settings.base, settings.quantize, device, settings.pictures, memory)
        if self._base is None or self._asked != asked:
            # before the next one is loaded: two do not fit a card
            self._forget()
            self._base = use_picture_sizes(load_base(settings.base, settings.quantize, device), settings.pictures)
            self._asked = asked
        try:
            yield self._base, {kind: self._kept(kind, make) for kind, make in OWN.items()}
        except BaseException:
            self._forget()
            raise
        remove_adapter(self._base.model.network)
        _clear_memory()

    def _kept(self, kind: str, make: MakesOwn) -> MakesOwn:
        def made(base: Base) -> list[Entry]:
            if kind not in self._own:
                self._own[kind] = make(base)
            return self._own[kind]

        return made

    def _forget(self) -> None:
        self._base, self._own = None, {}
        _clear_memory()


def _clear_memory() -> None:
    """What nobody holds any more goes back: optimisers and samples refer to each other in circles."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
