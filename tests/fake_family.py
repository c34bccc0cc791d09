"""A second model family, for tests: a few linear layers that are nothing like BAGEL.

No autoencoder: it draws patches of pixels. Its own time runs from 0 (noise) to 1 (the picture), its network predicts
the picture, its noise has a standard deviation that grows with the picture. Its tokens are words, its template marks
turns by tokens of its own, and what guidance leads away from is not empty: a token that means "no prompt".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from fake_parts import MARKS, PATCH, Drawn, FakeNetwork, FakeShapes, Painter, Read, Said, Seen, Sheet, Speakers, Words
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from charforge.errors import InputError
from charforge.families.protocol import BaseFiles
from charforge.families.results import Looked
from charforge.pixels import middle_square, to_image, to_pixels, to_rgb
from charforge.sample import Noise, Part, Picture, Sample, Target, stack_targets, target_of


class FakeModel:
    """See the protocol."""

    def __init__(self, network: FakeNetwork, shapes: FakeShapes) -> None:
        self.network, self.shapes = network.eval().requires_grad_(False), shapes
        self.recompute_layers = False
        self.ids = {word: number for number, word in enumerate(shapes.words)}

    device, dtype = torch.device("cpu"), torch.float32

    def autocast(self) -> nullcontext[None]:
        return nullcontext()

    def use_picture_sizes(self, longest, shortest, side, steps) -> None:
        self.shapes = self.shapes.with_picture_sizes(longest, shortest, side, steps)

    def park_encoders(self) -> None:
        """There are none."""

    def use_cuda_graphs(self, on: bool) -> None:
        pass

    def compile_layers(self, backend: str = "inductor") -> None:
        """It is small enough."""

    def pack_for_use(self) -> None:
        """It is fast enough."""

    # samples

    def text(self, text: str, role: str | None = None, loss: bool = False) -> Words:
        return Words((self.ids[f"<{role or 'nobody'}>"], *self.reply_tokens(text), self.ids["<end>"]), loss)

    def pieces(self, part: Part, tokens: int) -> list[Part]:
        return [part]

    def look(self, image: Image.Image) -> Seen:
        return Seen(patches_of(to_pixels(to_rgb(image), (self.shapes.side,) * 2)))

    def prepare_picture(self, image: Image.Image) -> Picture:
        seen = self.look(middle_square(image))
        return Picture(Target(seen.patches, torch.arange(seen.length)), seen)

    def picture_tensors(self, picture: Picture) -> dict[str, Tensor]:
        return {"patches": picture.target.x0}

    def picture_from(self, tensors: Mapping[str, Tensor]) -> Picture:
        patches = tensors["patches"]
        return Picture(Target(patches, torch.arange(len(patches))), Seen(patches))

    @property
    def preparation(self) -> str:
        return str(self.shapes.side)

    @property
    def drawing(self) -> str:
        return f"{self.shapes.side}:{self.shapes.steps}"

    def look_at(self, pixels: Tensor) -> Looked:
        parts = tuple(self.look(to_image(picture)) for picture in pixels)
        means = torch.stack([self.network.see(part.patches).mean(0) for part in parts])
        return Looked(parts, F.normalize(means, dim=-1))

    def without_prompt(self, sample: Sample) -> Sample:
        target = target_of(sample)
        assert target is not None
        return (self._no_prompt(), target)

    def _no_prompt(self) -> Words:
        return Words((self.ids["<no prompt>"],), False)

    def read_frozen_layers(self, samples: Sequence[Sample], layers: int) -> list[Sample]:
        # nothing to gain: a block is a single product
        return list(samples)

    # reading

    def _embedded(self, sample: Sample) -> Tensor:
        rows = [torch.zeros(0, self.shapes.width)]
        for part in sample:
            if isinstance(part, Words):
                rows.append(self.network.words(torch.tensor(part.ids)))
            elif isinstance(part, Seen):
                rows.append(self.network.see(part.patches))
            elif not isinstance(part, Target):
                raise TypeError(f"{type(part).__name__} is no part of this family")
        return torch.cat(rows)

    def _through(self, tokens: Tensor, before: Read) -> tuple[Tensor, Read]:
        """Tokens (n, width) after the one row of ``before``: what becomes of them, and the row grown by them."""
        counts = before.counts[0] + torch.arange(1, len(tokens) + 1)
        sums = []
        for number, block in enumerate(self.network.blocks):
            past = before.sums[0, number] + tokens.cumsum(0)
            sums.append(past[-1] if len(tokens) else before.sums[0, number])
            tokens = tokens + torch.tanh(block.read(past / counts[:, None]))
        return tokens, Read(torch.stack(sums)[None], before.counts + len(tokens))

    def _nothing(self, rows: int) -> Read:
        return Read(torch.zeros(rows, self.shapes.layers, self.shapes.width), torch.zeros(rows, dtype=torch.long))

    def read(self, rows: Sequence[Sample], after: Read | None = None) -> Read:
        with torch.no_grad():
            return self._read(rows, after)

    def _read(self, rows: Sequence[Sample], after: Read | None = None) -> Read:
        before = after or self._nothing(len(rows))
        grown = [self._through(self._embedded(row), before.select([n]))[1] for n, row in enumerate(rows)]
        return Read(torch.cat([one.sums for one in grown]), torch.cat([one.counts for one in grown]))

    # learning

    def _token_losses(self, sample: Sample, before: Read) -> Tensor:
        """Cross-entropy of each supervised token: each is predicted by the token before it."""
        embedded = self._embedded(sample)
        logits = self.network.speak(self._through(embedded, before)[0])
        places, labels, start = [], [], 0
        for part in sample:
            if isinstance(part, Words) and part.loss:
                places += range(start, start + part.length - 1)
                labels += part.ids[1:]
            start += 0 if isinstance(part, Target) else part.length
        return F.cross_entropy(logits[places], torch.tensor(labels), reduction="none")

    def text_loss(self, samples: Sequence[Sample], chunk: int = 1024) -> tuple[Tensor, int]:
        losses = torch.cat([self._token_losses(sample, self._nothing(1)) for sample in samples])
        return losses.sum(), len(losses)

    def log_likelihoods(self, rows: Sequence[Sample], after: Read | None = None) -> list[Tensor]:
        before = after or self._nothing(len(rows))
        with torch.no_grad():
            return [-self._token_losses(row, before.select([n])) for n, row in enumerate(rows)]

    def picture_loss(self, samples: Sequence[Sample], noise: Noise, prompt_gradients: bool) -> tuple[Tensor, int]:
        x0, counts = stack_targets(samples)
        pictures, drawn = x0.split(counts.tolist()), noise.values.split(counts.tolist())
        prompts = [tuple(part for part in sample if not isinstance(part, Target)) for sample in samples]
        total = torch.zeros(())
        for prompt, picture, values, t in zip(prompts, pictures, drawn, noise.times, strict=True):
            read = self._read([prompt]) if prompt_gradients else self.read([prompt])
            own = (1 - t) * picture + t * values * self.shapes.noise_scale
            predicted = self.predict(read, own[None], (1 - t)[None])[0]
            total = total + (predicted - picture).pow(2).mean(-1).sum()
        return total, len(x0)

    def predict(self, read: Read, own: Tensor, own_times: Tensor) -> Tensor:
        """The picture (rows, tokens, values) that the network sees in ``own`` noised patches at its ``own_times``."""
        network = self.network
        patches = network.paint(own) + network.clock(own_times[:, None].float())[:, None]
        known = read.sums / read.counts.clamp(min=1)[:, None, None]
        for number, block in enumerate(network.blocks):
            around = patches.mean(1, keepdim=True) + known[:, number, None]
            patches = patches + torch.tanh(block.draw(patches + around))
        return network.show(patches)

    # speaking

    def reply_prefix(self) -> int:
        return 0

    def reply_tokens(self, text: str) -> list[int]:
        unknown = self.ids["<unknown>"]
        return [self.ids.get(word.lower(), unknown) for word in re.findall(r"\w+|[^\w\s]", text)]

    def _next_logits(self, read: Read, ids: Tensor) -> tuple[Tensor, Read]:
        rows = [self._through(self.network.words(ids[n : n + 1]), read.select([n])) for n in range(read.rows)]
        logits = torch.cat([self.network.speak(tokens) for tokens, _ in rows])
        return logits, Read(torch.cat([one.sums for _, one in rows]), torch.cat([one.counts for _, one in rows]))

    @torch.no_grad()
    def reply_logits(self, rows: Sequence[Sample], after: Read | None = None) -> Tensor:
        return self._next_logits(self._read(rows, after), torch.full((len(rows),), self.ids["<assistant>"]))[0]

    @torch.no_grad()
    def reply(self, conditioning: Read, choose: Callable[[Tensor], Tensor], max_tokens: int) -> Iterator[Said]:
        read, done = conditioning, [False] * conditioning.rows
        ids = torch.full((read.rows,), self.ids["<assistant>"])
        for _ in range(max_tokens):
            logits, read = self._next_logits(read, ids)
            ids = choose(logits)
            done = [was or int(token) == self.ids["<end>"] for was, token in zip(done, ids, strict=True)]
            yield Said(tuple(None if over else int(token) for over, token in zip(done, ids, strict=True)))
            if all(done):
                return

    def speaking(self) -> Speakers:
        return Speakers(self)

    def ends(self, token: int) -> bool:
        return token == self.ids["<end>"]

    def words(self, tokens: Sequence[int]) -> str:
        return " ".join(self.shapes.words[token] for token in tokens if token >= len(MARKS))

    # drawing

    def canvas(self, side: int | None = None) -> Sheet:
        return Sheet(self.shapes.with_picture_sizes(None, None, side, None).side // PATCH)

    def times(self, steps: int, shift: float) -> Tensor:
        t = torch.linspace(1, 0, steps + 1)
        return shift * t / (1 + (shift - 1) * t)

    def denoiser(self, conditioning: Read, canvas: Sheet) -> Painter:
        return Painter(self, conditioning)

    @torch.no_grad()
    def draw(self, conditioning: Read, noise: Tensor, canvas: Sheet, *, steps=None, guidance=None) -> Tensor:
        *_, last = self.draw_steps(conditioning, noise, canvas, steps=steps, guidance=guidance)
        return last.states

    def draw_steps(
        self, conditioning: Read, noise: Tensor, canvas: Sheet, *, steps=None, guidance=None
    ) -> Iterator[Drawn]:
        scale = 2.0 if guidance is None else guidance
        with_text, without = Painter(self, conditioning), Painter(self, self.read([(self._no_prompt(),)] * len(noise)))
        times, states = self.times(steps or self.shapes.steps, 3.0), noise
        for done, (now, after) in enumerate(pairwise(times), 1):
            at = now.expand(len(states))
            plain = without.velocity(states, at)
            velocity = plain + scale * (with_text.velocity(states, at) - plain)
            expected, states = states - velocity * now, states + velocity * (after - now)
            yield Drawn(done, len(times) - 1, states, expected)

    def target(self, state: Tensor, canvas: Sheet) -> Target:
        return Target(state * self.shapes.noise_scale, torch.arange(len(state)))

    def drawn_target(self, x0: Tensor, rows: int, columns: int) -> Target:
        return Target(x0, torch.arange(rows * columns))

    def decode(self, states: Tensor, canvas: Sheet) -> Tensor:
        return torch.stack([pixels_of(state * self.shapes.noise_scale) for state in states])

    def decode_target(self, target: Target) -> Tensor:
        return pixels_of(target.x0)


def patches_of(pixels: Tensor) -> Tensor:
    """(3, H, H) -> (n, values)."""
    return F.unfold(pixels[None], PATCH, stride=PATCH)[0].T.contiguous()


def pixels_of(patches: Tensor) -> Tensor:
    """The inverse."""
    side = round(len(patches) ** 0.5) * PATCH
    return F.fold(patches.T[None], (side, side), PATCH, stride=PATCH)[0].clamp(-1, 1)


class Fake:
    """The door."""

    name = "fake"

    def recognises(self, folder: Path) -> bool:
        return (folder / "fake_base.json").exists()

    def read_shapes(self, folder: Path) -> FakeShapes:
        raw = json.loads((folder / "fake_base.json").read_text("utf-8"))
        return FakeShapes(**(raw | {"words": tuple(raw["words"])}))

    def published(self, name: str) -> None:
        return None

    def files(self, name: str, folder: Path) -> BaseFiles:
        return BaseFiles(name, folder, (folder / "fake.safetensors",), None, folder / "fake_base.json")

    def check(self, files: BaseFiles) -> None:
        FakeNetwork(self.read_shapes(files.config_folder)).load_state_dict(load_file(files.weights[0]))

    def load(self, files: BaseFiles, dtype, device, quantize, int8_threshold, report) -> FakeModel:
        shapes = self.read_shapes(files.config_folder)
        network = FakeNetwork(shapes)
        network.load_state_dict(load_file(files.weights[0]))
        report(1, 1)
        return FakeModel(network, shapes)

    def merge(self, files: BaseFiles, additions, folder: Path, precision, report) -> None:
        raise InputError(f"the base {files.name} has no published layout")


FAKE = Fake()


def make_fake_base(folder: Path, vocabulary: Sequence[str], seed: int = 0) -> Path:
    """A base of random weights that knows ``vocabulary``."""
    words = (*MARKS, *dict.fromkeys(word.lower() for word in vocabulary))
    shapes = FakeShapes(layers=3, width=24, side=16, steps=4, words=words)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FakeNetwork(shapes)
    folder.mkdir(parents=True, exist_ok=True)
    raw = {"layers": 3, "width": 24, "side": 16, "steps": 4, "words": list(words)}
    (folder / "fake_base.json").write_text(json.dumps(raw), "utf-8")
    save_file(network.state_dict(), folder / "fake.safetensors")
    return folder


def fake_model(folder: Path) -> FakeModel:
    """Loaded from what :func:`make_fake_base` wrote."""
    return FAKE.load(FAKE.files("fake", folder), torch.float32, "cpu", None, 0.0, lambda done, of: None)
