"""``python -m charforge.recipe``: render, autoencoder, vision, generation, pack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from charforge.cli.failures import run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Make the embedded base from nothing. Needs the extra `recipe`. Stages in order: render, autoencoder, "
    "vision, contrasts (wanted by generation --set contrasts=48), generation, pack. Stop and run a stage again at any "
    "time: it goes on from its last checkpoint.",
)
Out = Annotated[Path, typer.Option(help="working folder of the recipe")]
Threads = Annotated[int, typer.Option(help="CPU threads")]


@app.command()
def render(
    out: Out = Path("mini-work"),
    count: Annotated[int, typer.Option(help="training pictures")] = 24000,
    seed: int = 0,
    processes: int = 2,
) -> None:
    """Draw the training pictures and write captions and answers."""
    from charforge.recipe import dataset

    for done in dataset.render(out / "data", count, seed, processes):
        typer.echo(f"{done} of {count + dataset.HELD_OUT}", err=True)


@app.command()
def unpack(out: Out = Path("mini-work")) -> None:
    """Start from the shipped weights instead of from nothing: run once before the other stages."""
    from charforge.bases.base import MINI
    from charforge.recipe.unpack import unpack_base

    unpack_base(MINI, out)


@app.command()
def autoencoder(
    out: Out = Path("mini-work"),
    steps: int = 4500,
    decoder_only: Annotated[bool, typer.Option(help="leave the latents as they are and sharpen the decoder")] = False,
    threads: Threads = 2,
) -> None:
    """Train the image autoencoder, measure it, encode all pictures. With 0 steps it only measures and encodes."""
    import numpy as np
    import torch

    from charforge.recipe.autoencoder import AutoencoderRecipe, finish, sharpening_recipe, train_autoencoder
    from charforge.recipe.stages import require

    torch.set_num_threads(threads)
    pictures = np.load(require(out / "data" / "images.npy", "render"), mmap_mode="r")
    recipe = sharpening_recipe(steps) if decoder_only else AutoencoderRecipe(steps=steps)
    train_autoencoder(pictures, recipe, out / "autoencoder")
    typer.echo(json.dumps(finish(out / "autoencoder", pictures, np.load(out / "data" / "held_out.npy"))))


@app.command()
def contrasts(
    out: Out = Path("mini-work"),
    count: Annotated[int, typer.Option(help="pairs of pictures")] = 3200,
    seed: int = 0,
    threads: Threads = 2,
) -> None:
    """Draw and encode pairs of pictures that differ in one word: what `generation --set contrasts=48` learns from."""
    import torch

    from charforge.recipe.contrast import make_contrasts

    torch.set_num_threads(threads)
    make_contrasts(out, count, seed, lambda done: typer.echo(f"{done} of {count}", err=True))


@app.command()
def generation(
    out: Out = Path("mini-work"),
    minutes: Annotated[float, typer.Option(help="training time over all resumed parts")] = 75.0,
    threads: Threads = 2,
    device: str = "cpu",
    assignments: Annotated[list[str] | None, typer.Option("--set", help="setting of the recipe")] = None,
) -> None:
    """Train the generation expert beside the frozen language model.

    \b
    Example, to go on from shipped weights:
      python -m charforge.recipe generation --minutes 60 --set learning_rate=5e-4
    """
    import torch

    from charforge.recipe.generation import GenerationRecipe, prepare_generation, train_generation
    from charforge.settings import checked, read_assignments

    torch.set_num_threads(threads)
    data = {"minutes": minutes} | read_assignments(assignments or [])
    recipe = checked(GenerationRecipe, data, "GenerationRecipe in charforge/recipe/generation.py says what there is.")

    def report(done: int, count: int) -> None:
        if done % 640 == 0 or done == count:
            typer.echo(f"{done} of {count} captions read", err=True)

    model, pictures, pairs = prepare_generation(out, recipe, device, report)
    train_generation(model, pictures, pairs, recipe, out / "generation")


@app.command()
def vision(
    out: Out = Path("mini-work"),
    minutes: Annotated[float, typer.Option(help="training time over all resumed parts")] = 90.0,
    threads: Threads = 2,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="setting of the recipe")] = None,
) -> None:
    """Train the vision tower: first words for what is seen, then answers through the language model.

    \b
    Example, to sharpen what the shipped weights see and leave how they read and talk as it is:
      python -m charforge.recipe vision --minutes 200 --set reading=false --set learning_rate=3e-4 --set decay=0.3
    """
    import torch

    from charforge.recipe.vision import VisionRecipe, train_vision
    from charforge.settings import checked, read_assignments

    torch.set_num_threads(threads)
    data = {"minutes": minutes} | read_assignments(assignments or [])
    recipe = checked(VisionRecipe, data, "VisionRecipe in charforge/recipe/vision.py says what there is.")
    typer.echo(json.dumps(train_vision(out, recipe)))


@app.command()
def probe(out: Out = Path("mini-work"), epochs: int = 6, threads: Threads = 2) -> None:
    """Train the judge of attributes on the renders."""
    import torch

    from charforge.recipe.probe import train_probe

    def on_step(step: int, steps: int, loss: float) -> None:
        typer.echo(f"{step} of {steps}, loss {loss:.3f}", err=True)

    torch.set_num_threads(threads)
    typer.echo(json.dumps({name: round(value, 4) for name, value in train_probe(out, epochs, on_step).items()}))


@app.command()
def bench(
    out: Out = Path("mini-work"),
    probe_file: Annotated[Path | None, typer.Option("--probe", help="the judge; the shipped one by default")] = None,
    characters: Annotated[int, typer.Option(help="few-shot characters to train, each as long as a whole run")] = 20,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="setting of the few-shot training")] = None,
    quick: Annotated[bool, typer.Option(help="a few captions and no few-shot characters")] = False,
    threads: Threads = 2,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Measure the shipped base on unseen captions, renders, photographs and few-shot characters.

    \b
    Examples:
      python -m charforge.recipe bench --quick --json
      python -m charforge.recipe bench --characters 4 --set grpo.iterations=0
    """
    from dataclasses import replace

    import torch
    from rich import print_json

    from charforge.recipe.bench.run import QUICK, Size
    from charforge.recipe.bench.run import bench as measure
    from charforge.recipe.probe import SHIPPED

    torch.set_num_threads(threads)
    size = QUICK if quick else replace(Size(), characters=characters)
    found = measure(
        probe_file or SHIPPED, out / "bench", size, assignments or [], lambda line: typer.echo(line, err=True)
    )
    if as_json:
        typer.echo(json.dumps(found))
    else:
        print_json(data=found)


@app.command()
def further(
    out: Annotated[Path, typer.Option(help="a folder of its own: it begins with the shipped weights")] = Path(
        "mini-further"
    ),
    minutes: Annotated[float, typer.Option(help="training time over all tries")] = 10.0,
    device: str = "cuda",
    count: Annotated[int, typer.Option(help="training pictures")] = 24000,
    captions: Annotated[int, typer.Option(help="unseen captions to draw before and after; 0: no figures")] = 200,
    pairs: Annotated[int, typer.Option(help="contrasts to draw, where the recipe wants some")] = 3200,
    seed: int = 0,
    processes: Annotated[int, typer.Option(help="processes that render")] = 16,
    threads: Threads = 16,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="setting of the recipe")] = None,
) -> None:
    """Train the generation expert on from the shipped weights, all stages in one go, figures before and after.

    \b
    Example, for a quarter of an hour on a card; the new weights lie in mini-further/pieces:
      python -m charforge.recipe further --minutes 9 --set captions=384 --set contrasts=384 --set learning_rate=6e-4
    """
    import torch

    from charforge.device import chosen_device
    from charforge.recipe.further import Size, go_on
    from charforge.recipe.generation import GenerationRecipe
    from charforge.settings import checked, read_assignments

    torch.set_num_threads(threads)
    data = {"minutes": minutes, "seed": seed} | read_assignments(assignments or [])
    recipe = checked(GenerationRecipe, data, "GenerationRecipe in charforge/recipe/generation.py says what there is.")
    size = Size(count, pairs, captions)
    found = go_on(out, size, recipe, chosen_device(device), processes, lambda line: typer.echo(line, err=True))
    typer.echo(json.dumps(found))


@app.command()
def sheet(
    to: Annotated[Path, typer.Argument(help="where the picture goes")],
    count: Annotated[int, typer.Option(help="drawings, seeds 0, 1, 2, ...")] = 32,
    threads: Threads = 2,
) -> None:
    """Draw the benchmark's first captions with the shipped base, nothing picked, eight in a row."""
    import torch

    from charforge.bases.base import load_base
    from charforge.bases.drawing import draw_prompts
    from charforge.pixels import contact_sheet
    from charforge.recipe.bench.unseen import choose_captions

    torch.set_num_threads(threads)
    model, drawn = load_base("mini").model, []
    for number, (_, text) in enumerate(choose_captions(count)):
        drawn += draw_prompts(model, [text], [number])
        typer.echo(f"{number}: {text}", err=True)
    contact_sheet(drawn, 8).save(to, optimize=True)


@app.command()
def pack(
    out: Out = Path("mini-work"),
    to: Annotated[Path | None, typer.Option(help="where the base goes; the installed package by default")] = None,
) -> None:
    """Write the base's weights, replay pictures and provenance, as they ship; `answers` comes after it."""
    from charforge.bases.base import MINI
    from charforge.recipe.pack import pack_base

    typer.echo(json.dumps(pack_base(out, to or MINI), indent=2))


@app.command()
def answers(
    to: Annotated[Path | None, typer.Option(help="where the answers go; the installed package by default")] = None,
    threads: Threads = 2,
) -> None:
    """Ask the packed base about the world and about its own pictures: what training on a character replays."""
    import torch

    from charforge.bases.base import MINI
    from charforge.recipe.replay_answers import write_answers

    torch.set_num_threads(threads)
    typer.echo(json.dumps(write_answers(to or MINI)))


if __name__ == "__main__":
    run(app)
