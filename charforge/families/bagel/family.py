"""The door to BAGEL: what can be asked before a model is loaded. torch is imported where it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from charforge.errors import InputError
from charforge.families.bagel.config import BagelConfig, bagel_7b, read_config
from charforge.families.bagel.folder import tokenizer_file, weight_files
from charforge.families.protocol import BaseFiles

if TYPE_CHECKING:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from charforge.families.bagel.splits import TextSplit
    from charforge.families.bagel.unified import UnifiedBagel
    from charforge.families.protocol import Adapt, StandIn
    from charforge.sample import Target


class Bagel:
    """See :class:`charforge.families.protocol.Family`."""

    name = "bagel"

    def recognises(self, folder: Path) -> bool:
        """charforge's own configuration, or the official pair of files."""
        return (folder / "charforge_base.json").exists() or (folder / "llm_config.json").exists()

    def read_shapes(self, folder: Path) -> BagelConfig:
        return read_config(folder)

    def published(self, name: str) -> BagelConfig | None:
        return bagel_7b() if name == "bagel" else None

    def files(self, name: str, folder: Path) -> BaseFiles:
        weights, autoencoder = weight_files(folder), folder / "ae.safetensors"
        if not autoencoder.is_file():
            raise InputError(f"{autoencoder} is missing: the base {name} is not complete; fetch it again")
        return BaseFiles(name, folder, tuple(weights), autoencoder, tokenizer_file(folder))

    def check(self, files: BaseFiles) -> None:
        """Every key once, with the shape that the configuration implies; files as long as their headers promise."""
        from charforge.families.bagel.checkpoint import autoencoder_shapes, model_shapes
        from charforge.families.bagel.stream import plan
        from charforge.families.bagel.tokenizer import Tokenizer

        config = read_config(files.config_folder)
        plan(model_shapes(config), list(files.weights))
        assert files.autoencoder is not None
        plan(autoencoder_shapes(config), [files.autoencoder])
        Tokenizer(files.tokenizer, config.chat_roles)

    def load(
        self, files: BaseFiles, dtype: torch.dtype, device: str, quantize: str | None, int8_threshold: float,
        report: Callable[[int, int], None],
    ) -> UnifiedBagel:  # fmt: skip
        from safetensors.torch import load_file

        from charforge.families.bagel.checkpoint import build_empty, load_autoencoder, low_rank_additions, unrounded
        from charforge.families.bagel.stream import Addition, load_tensors
        from charforge.families.bagel.tokenizer import Tokenizer
        from charforge.families.bagel.unified import UnifiedBagel

        config = read_config(files.config_folder)
        network = build_empty(config)
        additions: dict[str, Addition] = {}
        for file in files.additions:
            additions |= low_rank_additions(unrounded(load_file(file)))
        load_tensors(network, list(files.weights), dtype, device, quantize, int8_threshold, additions, report)
        assert files.autoencoder is not None
        autoencoder = load_autoencoder(files.autoencoder, config, device)
        return UnifiedBagel(network.eval(), autoencoder, Tokenizer(files.tokenizer, config.chat_roles))

    def for_measuring(self, name: str) -> BagelConfig | None:
        from charforge.families.bagel.small import SMALL

        return SMALL if name == "small" else self.published(name)

    def stand_in(
        self, shapes: BagelConfig, precision: str | None, adapt: Adapt, dtype: torch.dtype, fake: FakeTensorMode
    ) -> StandIn:
        from charforge.families.bagel.stand_in import stand_in

        return stand_in(shapes, precision, adapt, dtype, fake)

    @contextmanager
    def as_on_a_gpu(self) -> Iterator[None]:
        """Fused attention everywhere."""
        from charforge.families.bagel.layers import fused_everywhere

        token = fused_everywhere.set(True)
        try:
            yield
        finally:
            fused_everywhere.reset(token)

    def weight_bytes(self, shapes: BagelConfig, precision: str, dtype: torch.dtype) -> int:
        from charforge.families.bagel.random_base import weight_bytes

        return weight_bytes(shapes, precision, dtype)

    def random_model(
        self, shapes: BagelConfig, precision: str, dtype: torch.dtype, device: str,
        report: Callable[[int, int], None], seed: int = 0,
    ) -> UnifiedBagel:  # fmt: skip
        from charforge.families.bagel.random_base import random_model

        return random_model(shapes, precision, dtype, device, report, seed)

    def write_random_base(self, shapes: BagelConfig, folder: Path, report: Callable[[int, int], None]) -> None:
        from charforge.families.bagel.random_files import write_random_base

        write_random_base(shapes, folder, report)

    def random_text(
        self, shapes: BagelConfig, tokens: int, generator: torch.Generator | None, loss: bool = False
    ) -> TextSplit:
        from charforge.families.bagel.random_base import random_text

        return random_text(shapes, tokens, generator, loss)

    def random_target(self, shapes: BagelConfig, tokens: int, generator: torch.Generator | None) -> Target:
        from charforge.families.bagel.random_base import random_target

        return random_target(shapes, tokens, generator)


BAGEL = Bagel()
