"""A character's expressions as pictures: drawn by its adapter, of each the best of several by likeness and expression.

The files lie as SillyTavern reads them: ``NAME/LABEL.png`` in its folder ``characters``.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from charforge import grammar
from charforge.bases.drawing import draw_pixels
from charforge.bundle import Bundle
from charforge.bundle.manifest import ADAPTER
from charforge.chat.imagine import drawings_of
from charforge.chat.session import Session
from charforge.errors import InputError
from charforge.export.faces import FACES, prompt_details, questions_about
from charforge.families.protocol import UnifiedModel
from charforge.files import write_atomic
from charforge.judges.encoders import Encoder
from charforge.judges.likeness import FEWEST_REFERENCES, References, calibrate, nearest_similarity, usual_likeness
from charforge.likelihood import Question, answer_likelihoods, probabilities
from charforge.low_rank import adapter_off
from charforge.pixels import to_image, to_pixels
from charforge.sample import Picture
from charforge.train.dataset import read_prepared
from charforge.words import file_stem

CHUNK = "charforge"
"""Of the PNG's texts the one that says what drew it."""


@dataclass(frozen=True)
class Drawing:
    """How expressions are drawn: the best of ``best_of``, from noise of ``seed`` on, ``scene`` said in all;
    ``simple`` as on ``mini``.
    """

    best_of: int
    seed: int
    scene: str
    simple: bool


@dataclass(frozen=True)
class Sprite:
    """One expression. ``likeness`` is 0 where the character's own pictures are hardly ever as unlike each other and 1
    where they are usually as alike; ``expression`` how sure the base is of it (0 to 1); ``read`` whether it finds it
    likelier than every other.
    """

    label: str
    picture: Image.Image
    likeness: float
    expression: float
    read: bool


def folder_name(name: str) -> str:
    """A character's name as the folder in which SillyTavern looks: as it is, less what no file system takes."""
    told = re.sub(r"[/?<>\\:*|\"\x00-\x1f\x80-\x9f]", "", name).rstrip(". ").strip()
    reserved = re.fullmatch(r"\.*|(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", told, re.IGNORECASE)
    return file_stem(name) if reserved or len(told.encode()) > 200 else told


def references_of(session: Session, encoder: Encoder, pictures: Mapping[str, Picture]) -> References:
    """How alike pictures of the character are: its own prepared ``pictures``; where there are none, drawings of it."""
    model = session.base.model
    if pictures:
        own = torch.cat([model.decode_target(picture.target)[None].cpu() for picture in pictures.values()])
        return calibrate(encoder.encode(own).cpu())
    drawn = torch.stack([to_pixels(picture, picture.size) for picture in drawings_of(session)])
    return calibrate(encoder.encode(drawn).cpu())


def pictures_of_run(source: Path, model: UnifiedModel) -> dict[str, Picture]:
    """The training pictures that a run keeps; none where ``source`` is no run, or has fewer than say anything."""
    cache = source / "cache"
    pictures = read_prepared(model, cache) if (cache / "pictures.json").is_file() else {}
    return pictures if len(pictures) >= FEWEST_REFERENCES else {}


def mark_of(bundle: Bundle, drawing: Drawing, label: str) -> str:
    """What decides a sprite: the adapter, the words and the seeds."""
    adapter = hashlib.sha256(bundle.contents[ADAPTER]).hexdigest()[:16]
    return f"{adapter} {label} {drawing.seed} {drawing.best_of} {prompt_details(label, drawing.simple, drawing.scene)}"


def sprites_there(folder: Path, bundle: Bundle, drawing: Drawing) -> set[str]:
    """The expressions that an earlier call with the same adapter and seeds left in ``folder``.

    Raises InputError for a picture of one that is there and comes from anywhere else.
    """
    found = set()
    for label in FACES:
        path = folder / f"{label}.png"
        if not path.is_symlink() and not path.exists():
            continue
        try:
            with Image.open(path, formats=["PNG"]) as image:
                own = getattr(image, "text", {}).get(CHUNK) == mark_of(bundle, drawing, label)
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            own = False
        if not own or path.is_symlink():
            raise InputError(
                f"--sprites: {path} is there and was not drawn by this adapter with these options; name another folder"
            )
        found.add(label)
    return found


def draw_sprites(
    session: Session, encoder: Encoder, references: References, drawing: Drawing, without: set[str]
) -> Iterator[Sprite]:
    """The best picture of every expression but those of ``without``, one after the other.

    All are drawn from the same few seeds, so that the character stands alike in them.
    """
    for label in FACES:
        if label not in without:
            yield _best(session, encoder, references, drawing, label)


def _best(session: Session, encoder: Encoder, references: References, drawing: Drawing, label: str) -> Sprite:
    model = session.base.model
    prompt = grammar.caption_with_name(session.character, prompt_details(label, drawing.simple, drawing.scene))
    seeds = list(range(drawing.seed, drawing.seed + drawing.best_of))
    with session.acts():
        pictures = draw_pixels(model, [prompt] * len(seeds), seeds)
    alike = likeness(encoder.encode(pictures).cpu(), references)
    sure, read = _expression(session, pictures, label, drawing.simple)
    best = int((alike + sure).argmax())
    return Sprite(label, to_image(pictures[best]), float(alike[best]), float(sure[best]), bool(read[best]))


def likeness(features: Tensor, references: References) -> Tensor:
    """(rows, width) -> (rows,) from 0 to 1: see :class:`Sprite`. To be more alike than is usual earns nothing."""
    return usual_likeness(nearest_similarity(features, references), references).clamp(min=0)


def _expression(session: Session, pictures: Tensor, label: str, simple: bool) -> tuple[Tensor, Tensor]:
    """(rows,) how sure the base without its adapter is that the pictures show an expression, and whether it reads it
    in them."""
    model, asked = session.base.model, questions_about(label, simple)
    with adapter_off(model.network):
        looks = model.look_at(pictures).parts
        questions = [Question(row, one.question, one.answers) for row in range(len(looks)) for one in asked]
        chances = [probabilities(found) for found in answer_likelihoods(model, [(look,) for look in looks], questions)]
    rights = [one.right for one in asked] * len(looks)
    sure = torch.stack([chance[right] for chance, right in zip(chances, rights, strict=True)])
    first = torch.tensor([int(chance.argmax()) == right for chance, right in zip(chances, rights, strict=True)])
    return sure.view(len(looks), -1).mean(1), first.view(len(looks), -1).all(1)


def write_sprite(folder: Path, sprite: Sprite, mark: str) -> None:
    """Write one expression; ``mark`` is that of :func:`mark_of`."""
    told = PngImagePlugin.PngInfo()
    told.add_itxt(CHUNK, mark)
    out = io.BytesIO()
    sprite.picture.save(out, "PNG", pnginfo=told)
    write_atomic(folder / f"{sprite.label}.png", out.getvalue())


def read_sprites(folder: Path) -> dict[str, bytes]:
    """All expressions of a folder, PNG by name."""
    return {label: (folder / f"{label}.png").read_bytes() for label in FACES}
