"""Several characters in one pass against one after the other: adapters on one frozen base, each on its own tokens.

    python docs/studies/one_pass.py
    python docs/studies/one_pass.py --shapes mini --characters 1 4
    python docs/studies/one_pass.py --part speaking --shapes mini --characters 2 4 8

``training``: the step of the first stage. The samples of all characters are laid out as one pack; every product of the
base is computed once for all of them, and each adapter adds its low-rank product to the tokens of its own character.
The gradients are those of one after the other (``tests/test_one_pass.py``). Seconds are those of the processor, memory
is the peak of a process that does nothing else, less what it had before the first step.

``speaking``: replies of several characters, each on its own adapter, side by side as the server decodes them, against
one token of each in turn.

Weights and samples are random: what they hold costs nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charforge.bases.where import find_base
from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.cross_entropy import linear_cross_entropy
from charforge.families.bagel.decoder import Grid, Layout
from charforge.families.bagel.family import BAGEL
from charforge.families.bagel.packing import Pack, pack
from charforge.families.bagel.splits import LatentSplit, Split, TextSplit, splits_of
from charforge.families.bagel.unified import UnifiedBagel
from charforge.flow import interpolate, target_velocity
from charforge.low_rank import LowRankLinear, acting
from charforge.sample import Noise, Sample, Target, stack_targets
from charforge.train.losses import Weights, draw_noise, unified_gradient

RANK, STRENGTH = 16, 2.0
Parameters = dict[str, nn.Parameter]


# the layer


class Shares:
    """How many tokens of a pass are whose, by role: said before each pass, heard by every layer."""

    def __init__(self, characters: int) -> None:
        self.characters = characters
        self.only: int | None = None
        self.counts: dict[str, list[int]] = {}

    def of(self, role: str, tokens: int) -> list[int]:
        """Tokens of each character, in order; all are those of ``only`` where one trains alone."""
        if self.only is not None:
            return [tokens if character == self.only else 0 for character in range(self.characters)]
        return self.counts[role]


class SharedLinear(nn.Module):
    """``base_layer(x)`` for the tokens of all characters, and ``strength * B_k A_k x`` for those of character k."""

    def __init__(self, base_layer: nn.Module, role: str, shares: Shares, generator: torch.Generator) -> None:
        super().__init__()
        self.base_layer, self._role, self._shares = base_layer, role, shares
        weight = base_layer.get_parameter("weight")
        outputs, inputs = weight.shape
        # as peft begins, but that B is small and not zero: a gradient of A should be there too
        self.lora_A = nn.ParameterList(
            torch.randn(RANK, inputs, generator=generator) / math.sqrt(inputs) for _ in range(shares.characters)
        )
        self.lora_B = nn.ParameterList(
            torch.randn(outputs, RANK, generator=generator) / 100 for _ in range(shares.characters)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(tokens, in) -> (tokens, out)."""
        parts = zip(x.split(self._shares.of(self._role, x.shape[0])), self.lora_A, self.lora_B, strict=True)
        low = [F.linear(F.linear(part.to(a.dtype), a), b) for part, a, b in parts if part.shape[0]]
        out = self.base_layer(x)
        return (out + torch.cat(low) * STRENGTH).to(out.dtype)


def put_in(model: UnifiedBagel, characters: int, seed: int = 0) -> tuple[Shares, list[Parameters]]:
    """An adapter of each character beside the linears of ``model``; the parameters of each by name."""
    model.network.requires_grad_(False)
    shares, generator = Shares(characters), torch.Generator().manual_seed(seed)
    found: list[Parameters] = [{} for _ in range(characters)]
    for name in model.shapes.adapter_linears(0):
        layer = SharedLinear(model.network.get_submodule(name), model.shapes.role_of(name), shares, generator)
        model.network.set_submodule(name, layer)
        for character, own in enumerate(found):
            own[f"{name}.A"], own[f"{name}.B"] = layer.lora_A[character], layer.lora_B[character]
    return shares, found


# one pack of several


def joined(packs: Sequence[Pack]) -> Pack:
    """The packs one behind the other as one: nobody sees anybody of another pack."""
    und = [0, *accumulate(len(one.layout.understanding_positions) for one in packs)]
    gen = [0, *accumulate(len(one.layout.generation_positions) for one in packs)]

    def cat(name: str, shifts: Sequence[int] | None = None) -> Tensor:
        values = [getattr(one, name) for one in packs]
        return torch.cat([v + s for v, s in zip(values, shifts, strict=False)] if shifts else values)

    features = None if any(one.features is None for one in packs) else cat("features")
    only = [one.layout.understanding_only for one in packs]
    return replace(
        packs[0],
        **{name: cat(name) for name in ("text_ids", "patches", "patch_position_ids", "latents", "labels")},
        **{name: cat(name) for name in ("latent_position_ids", "timesteps")},
        **{name: cat(name, und) for name in ("text_rows", "patch_rows", "loss_rows")},
        noised_rows=cat("noised_rows", gen),
        patch_lengths=[length for one in packs for length in one.patch_lengths],
        features=features,
        layout=Layout(
            torch.cat([one.layout.understanding_positions for one in packs]),
            torch.cat([one.layout.generation_positions for one in packs]),
            _joined_grids([one.layout.joint for one in packs]),
            None if only[0] is None else _joined_grids([grid for grid in only if grid is not None]),
        ),
    )


def _joined_grids(grids: Sequence[Grid]) -> Grid:
    length = max(grid.length for grid in grids)
    rows = [0, *accumulate(grid.rows for grid in grids)]

    def slots(name: str) -> Tensor:
        moved = []
        for grid, first in zip(grids, rows, strict=False):
            own = getattr(grid, name)
            moved.append((own // grid.length + first) * length + own % grid.length)
        return torch.cat(moved)

    visible = [F.pad(grid.visible, (0, length - grid.length) * 2, value=False) for grid in grids]
    return Grid(rows[-1], length, slots("understanding_slots"), slots("generation_slots"), torch.cat(visible))


# the step


@dataclass(frozen=True)
class Batch:
    """What one character trains on in a step."""

    texts: list[Sample]
    pictures: list[Sample]
    noise: Noise


def one_after_the_other(model: UnifiedBagel, shares: Shares, batches: Sequence[Batch]) -> None:
    """The gradients of all characters, as ``charforge train A B C`` computes them."""
    for character, batch in enumerate(batches):
        shares.only = character
        with model.autocast():
            size = max(len(batch.texts), len(batch.pictures))
            unified_gradient(model, batch.texts, batch.pictures, batch.noise, Weights(1.0, 1.0), size)
    shares.only = None


def in_one_pass(model: UnifiedBagel, shares: Shares, batches: Sequence[Batch]) -> None:
    """The same gradients from one pass over all texts and one over all pictures."""
    network, config = model.network, model.shapes
    with model.autocast():
        packs = [pack([splits_of(sample) for sample in batch.texts], config, share=True) for batch in batches]
        _tell(shares, packs)
        hidden = network(joined(packs), head=False).logits.split([len(one.labels) for one in packs])
        head = network.language_model.head_weight
        texts = [
            linear_cross_entropy(own, head, one.labels) / len(one.labels)
            for own, one in zip(hidden, packs, strict=True)
        ]
        torch.stack(texts).sum().backward()
        packs = [_noised(batch, config) for batch in batches]
        _tell(shares, packs)
        targets = [stack_targets(batch.pictures)[0] for batch in batches]
        velocities = network(joined(packs)).velocity.split([len(x0) for x0 in targets])
        errors = [
            (velocity.float() - target_velocity(x0, batch.noise.values)).square().mean()
            for velocity, x0, batch in zip(velocities, targets, batches, strict=True)
        ]
        torch.stack(errors).sum().backward()


def _tell(shares: Shares, packs: Sequence[Pack]) -> None:
    shares.counts = {
        "text": [len(one.layout.understanding_positions) for one in packs],
        "picture": [len(one.layout.generation_positions) for one in packs],
    }


def _noised(batch: Batch, config: BagelConfig) -> Pack:
    x0, counts = stack_targets(batch.pictures)
    states = interpolate(x0, batch.noise.values, batch.noise.times.repeat_interleave(counts)).split(counts.tolist())
    laid: list[list[Split]] = []
    for sample, state, time_of in zip(batch.pictures, states, batch.noise.times, strict=True):
        (target,) = [part for part in sample if isinstance(part, Target)]
        laid.append([*splits_of(sample), LatentSplit(state, target.position_ids, float(time_of))])
    return pack(laid, config)


def make_batch(config: BagelConfig, seed: int, texts: int, pictures: int, tokens: int) -> Batch:
    """Replies of 20 tokens behind one system prompt of 40, and pictures of ``tokens`` tokens behind a caption of 20."""
    generator = torch.Generator().manual_seed(seed)

    def text(count: int, loss: bool = False) -> TextSplit:
        return BAGEL.random_text(config, count, generator, loss)

    system = text(40)
    drawn = [(text(20), BAGEL.random_target(config, tokens, generator)) for _ in range(pictures)]
    return Batch([(system, text(12), text(20, True)) for _ in range(texts)], drawn, draw_noise(drawn, 3.0, generator))


# measuring


def make_model(shapes: str) -> UnifiedBagel:
    """Random weights: ``small`` in fp32, ``mini`` of the embedded base's shapes in bf16."""
    if shapes == "mini":
        config, dtype = BAGEL.read_shapes(find_base("mini").config_folder), torch.bfloat16
    else:
        config, dtype = BAGEL.for_measuring("small"), torch.float32
    return BAGEL.random_model(config, "bf16", dtype, "cpu", lambda done, of: None)


def processor_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def measure_training(shapes: str, characters: int, together: bool, steps: int) -> dict[str, float]:
    """Processor seconds of the fastest of some steps, and MiB at the fullest moment."""
    model = make_model(shapes)
    shares, parameters = put_in(model, characters)
    learned = [parameter for own in parameters for parameter in own.values()]
    optimizer = torch.optim.AdamW(learned, lr=1e-4, fused=True)
    batches = [make_batch(model.shapes, seed, 4, 2, 64) for seed in range(characters)]
    compute = in_one_pass if together else one_after_the_other
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def step() -> None:
        compute(model, shares, batches)
        for own in parameters:
            nn.utils.clip_grad_norm_(own.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds = [processor_seconds(step) for _ in range(steps + 1)][1:]
    return {"seconds": min(seconds), "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def training(shapes: str, characters: Sequence[int], steps: int) -> None:
    """A process for each measurement, one after the other and in one pass by turns; the better of two rounds."""
    print("characters | one after the other: s, MiB | in one pass: s, MiB | ratio of time | growth: in turn, one pass")
    first: dict[bool, float] = {}
    for count in characters:
        told: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        for _ in range(2):
            for together in (False, True):
                command = [sys.executable, __file__, "--shapes", shapes, "--characters", str(count)]
                command += ["--steps", str(steps), "--measure", "together" if together else "in turn"]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                told[together].append(json.loads(done.stdout))
        seconds = {together: min(one["seconds"] for one in rounds) for together, rounds in told.items()}
        mib = {together: min(one["mib"] for one in rounds) for together, rounds in told.items()}
        first = first or seconds
        grown = [seconds[together] / first[together] for together in (False, True)]
        print(
            f"{count} | {seconds[False]:.2f}, {mib[False]:.0f} | {seconds[True]:.2f}, {mib[True]:.0f} | "
            f"{seconds[False] / seconds[True]:.2f} | {grown[0]:.2f}, {grown[1]:.2f}",
            flush=True,
        )


def speaking(shapes: str, characters: Sequence[int], words: int) -> None:
    """Processor seconds of a word of every character, in turn and side by side, by turns in one process."""
    model = make_model(shapes)
    generator = torch.Generator().manual_seed(0)
    for name, (inputs, outputs) in model.shapes.adapter_linears(0).items():
        layer = LowRankLinear(model.network.get_submodule(name))
        for character in range(max(characters)):
            pair = (torch.randn(RANK, inputs, generator=generator), torch.randn(outputs, RANK, generator=generator))
            layer.add(str(character), (pair[0].to(model.dtype) / 100, pair[1].to(model.dtype) / 100, STRENGTH))
        model.network.set_submodule(name, layer)
    model.pack_for_use()
    asked = BAGEL.random_text(model.shapes, 60, generator)
    print("characters | a word of each in turn: ms | side by side: ms | ratio")
    for count in characters:
        tables = []
        for members in ([[character] for character in range(count)], [list(range(count))]):
            table = []
            for group in members:
                together = model.speaking()
                for character in group:
                    with acting(str(character)), model.autocast(), torch.no_grad():
                        together.join(model.read([(asked,)]), 2 * words + 2)
                table.append(together)
            tables.append(table)

        def say(table: Sequence, times: int = words) -> None:
            with model.autocast():
                for _ in range(times):
                    for one in table:
                        one.feed(one.logits.argmax(-1))

        for table in tables:
            say(table, 2)
        rounds = [[processor_seconds(lambda table=table: say(table)) / words for table in tables] for _ in range(2)]
        turns, side = (1000 * min(seconds) for seconds in zip(*rounds, strict=True))
        print(f"{count} | {turns:.1f} | {side:.1f} | {turns / side:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Several characters in one pass against one after the other.")
    parser.add_argument("--part", choices=("training", "speaking"), default="training")
    parser.add_argument("--shapes", choices=("small", "mini"), default="small")
    parser.add_argument("--characters", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--steps", type=int, default=3, help="steps, or words of each reply, in each round")
    parser.add_argument("--measure", choices=("in turn", "together"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.measure:
        together = arguments.measure == "together"
        print(json.dumps(measure_training(arguments.shapes, arguments.characters[0], together, arguments.steps)))
    elif arguments.part == "training":
        training(arguments.shapes, arguments.characters, arguments.steps)
    else:
        speaking(arguments.shapes, arguments.characters, arguments.steps)


if __name__ == "__main__":
    main()
