"""Drawing from prompts and seeds, as every part of charforge does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from charforge.families.protocol import UnifiedModel
from charforge.families.results import Canvas, Conditioning
from charforge.pixels import through_bytes, to_image
from charforge.sample import Target


def noise_of_seeds(canvas: Canvas, seeds: Sequence[int]) -> Tensor:
    """(seeds, tokens, values) standard normal, each picture's from a CPU generator of its own."""
    return torch.stack([torch.randn(*canvas.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def read_prompts(model: UnifiedModel, prompts: Sequence[str]) -> Conditioning:
    """Prompts of drawings, one a row."""
    with model.autocast():
        return model.read([(model.text(prompt),) for prompt in prompts])


def draw_prompts(model: UnifiedModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
    """One picture a prompt with the base's own sampling settings; the adapter in the model acts if it is on."""
    return _draw(model, read_prompts(model, prompts), seeds)


def draw_many(model: UnifiedModel, prompt: str, seed: int, count: int) -> list[Image.Image]:
    """``count`` pictures of one prompt, which is read once; seeds are seed, seed + 1, ..."""
    read = read_prompts(model, [prompt]).select([0] * count)
    return _draw(model, read, [seed + index for index in range(count)])


@dataclass(frozen=True)
class DrawingProgress:
    """``done`` of ``steps`` steps of drawing pictures side by side; ``pictures`` when they are finished.

    ``likeness`` of each, where it was measured: see charforge/judges/choosing.py.
    """

    done: int
    steps: int
    preview: Callable[[], list[Image.Image]]
    """The pictures as they look from here: takes as long as decoding them does."""
    pictures: tuple[Image.Image, ...] = ()
    likeness: tuple[float, ...] = ()


def begin_drawing(model: UnifiedModel, prompt: str, seeds: Sequence[int]) -> Iterator[DrawingProgress]:
    """The pictures of :func:`draw_many` step by step, each when it is asked for, inside the model's autocast."""
    read = read_prompts(model, [prompt]).select([0] * len(seeds))
    canvas = model.canvas()
    for step in model.draw_steps(read, noise_of_seeds(canvas, seeds), canvas):

        def preview(states: Tensor = step.expected) -> list[Image.Image]:
            with model.autocast():
                return [to_image(picture) for picture in model.decode(states, canvas)]

        yield DrawingProgress(step.done, step.steps, preview)
    yield DrawingProgress(step.steps, step.steps, preview, tuple(preview(step.states)))


def draw_target(model: UnifiedModel, prompt: str, seed: int) -> Target:
    """What the base draws for ``prompt``, as something to learn to draw: never decoded."""
    canvas = model.canvas()
    return model.target(_states(model, read_prompts(model, [prompt]), canvas, [seed])[0], canvas)


def draw_pixels(model: UnifiedModel, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
    """The pictures of :func:`draw_prompts` as pixels (n, 3, H, W) with the same values, on the CPU."""
    return through_bytes(_decoded(model, read_prompts(model, prompts), seeds))


def _draw(model: UnifiedModel, conditioning: Conditioning, seeds: Sequence[int]) -> list[Image.Image]:
    return [to_image(picture) for picture in _decoded(model, conditioning, seeds)]


def _decoded(model: UnifiedModel, conditioning: Conditioning, seeds: Sequence[int]) -> Tensor:
    canvas = model.canvas()
    states = _states(model, conditioning, canvas, seeds)
    with model.autocast():
        return model.decode(states, canvas)


def _states(model: UnifiedModel, conditioning: Conditioning, canvas: Canvas, seeds: Sequence[int]) -> Tensor:
    with model.autocast():
        return model.draw(conditioning, noise_of_seeds(canvas, seeds), canvas)
