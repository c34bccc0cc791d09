"""The pictures of a character folder and their captions: found under all the names that people give them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from charforge.character.cards.containers import png_carries_card
from charforge.character.cleaning import tidied
from charforge.character.json_text import parse_json
from charforge.character.ledger import Entry, passed_over, taken
from charforge.character.listing import files_in, is_system_name, is_utf8, natural_key, normal
from charforge.character.picture_kinds import FORMATS, SUFFIXES, UNREAD_SUFFIXES, readable_suffixes, what_it_is
from charforge.character.text_files import outside, read_text, shown
from charforge.errors import Problem

PLACES = ("images", "image", "img", "imgs", "pictures", "pics", "photos")
"""Folders that are taken for the one with the pictures, in any case; the first that is there."""
CAPTION_SUFFIXES = (".txt", ".caption", ".cap")
TABLES = ("metadata.jsonl", "metadata.csv")
"""Captions of a whole folder in one file, as image data sets have them."""
TEXT_KEYS = ("text", "caption", "prompt", "description")
_REPEATS = re.compile(r"^\d+_\S")
_ABOUT = re.compile(r"^read[-_ ]?me\b", re.I)


@dataclass
class PictureFiles:
    """``pictures``: file by name (unique, NFC, without extension); ``captions``: one line by the same name."""

    pictures: dict[str, Path] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)


def read_pictures(folder: Path, problems: list[Problem]) -> PictureFiles:
    """All pictures and captions of a folder in our own layout; what is no picture is told and in the entries."""
    place = _place(folder)
    if place is not None and not place.resolve().is_relative_to(folder.resolve()):
        problems.append(
            Problem(place.name, "error", "is a link that leads outside the character folder", "copy the pictures in")
        )
        return PictureFiles()
    # without a folder of their own: sorted into folders as kohya's trainers want it, or beside character.md
    places = [place] if place is not None else [path for path in _folders(folder) if _REPEATS.match(path.name)]
    listed = [path for one in places for path in _listed(folder, one, True, problems)]
    at_top = [path for path in _listed(folder, folder, False, problems) if _is_picture_at_top(path)]
    if not places and at_top:
        names = {normal(path.stem) for path in at_top}
        about = [path for path in _listed(folder, folder, False, problems) if _is_caption_of(path, names)]
        listed, at_top = [*at_top, *about], []
    if place is None and not listed:
        problems.append(Problem("images", "error", "is missing", "make a folder images/ with 10 pictures"))
    found = _sorted_out(folder, listed, problems)
    for path in at_top:
        told = "lies beside the folder of the pictures and is not read"
        _pass_over(found, problems, folder, path, told, f"move it into {places[0].name}/, or remove it")
    for other in (path for path in _folders(folder) if path not in places and _may_hold_pictures(path)):
        if _listed(folder, other, True, problems):
            told = "is a second folder of pictures and is not read"
            _pass_over(found, problems, folder, other, told, f"move what is in it into {places[0].name}/")
    tables = [path for path in (_table(folder), *map(_table, {p.parent for p in listed})) if path is not None]
    for table in dict.fromkeys(tables):
        _read_table(folder, table, found, problems)
    found.entries.append(taken("images" if place is None else place.name, "caption", len(found.captions)))
    return found


def find_pictures(folder: Path, directory: Path, problems: list[Problem]) -> dict[str, Path]:
    """Picture files directly inside ``directory`` by name, in natural order; what cannot be one is a problem."""
    read = readable_suffixes()
    pictures = [path for path in _listed(folder, directory, False, problems) if path.suffix.lower() in read]
    return _named(folder, pictures, problems)


def _place(folder: Path) -> Path | None:
    by_name = {path.name.casefold(): path for path in sorted(_folders(folder), reverse=True)}
    return next((by_name[name] for name in PLACES if name in by_name), None)


def _may_hold_pictures(path: Path) -> bool:
    return path.name.casefold() in PLACES or _REPEATS.match(path.name) is not None


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_system_name(path.name))


def _listed(folder: Path, directory: Path, nested: bool, problems: list[Problem]) -> list[Path]:
    """The files of a folder that can be read, by name; an unreadable folder is a problem."""
    try:
        return list(files_in(directory, nested, SUFFIXES))
    except OSError as error:
        name = shown(folder, Path(error.filename or directory))
        problems.append(
            Problem(name, "error", f"cannot be read ({error.strerror})", "make the folder readable for you")
        )
        return []


def _is_picture_at_top(path: Path) -> bool:
    # a card is a picture too, and is read as a card
    return path.suffix.lower() in SUFFIXES and path.is_file() and not png_carries_card(path) and path.stem != "card"


def _is_caption_of(path: Path, names: set[str]) -> bool:
    return path.suffix.lower() in CAPTION_SUFFIXES and (normal(path.stem) in names or _inner(path) in names)


def _inner(path: Path) -> str:
    """ "01.png.txt" -> "01": the name of the picture that a caption is named after, extension and all."""
    stem = PurePosixPath(path.stem)
    return normal(stem.stem if stem.suffix.lower() in SUFFIXES else stem.name)


def _sorted_out(folder: Path, listed: list[Path], problems: list[Problem]) -> PictureFiles:
    """Pictures, captions beside them, and the rest."""
    read = readable_suffixes()
    pictures = [path for path in listed if path.suffix.lower() in read]
    captions = [path for path in listed if path.suffix.lower() in CAPTION_SUFFIXES]
    found = PictureFiles(_named(folder, pictures, problems))
    used = _read_captions(folder, captions, found, problems)
    with_picture = {(path.parent, normal(path.stem).casefold()) for path in pictures}
    for path in captions:
        if path in used:
            continue
        text = read_text(folder, path, [])
        if (path.parent, _inner(path).casefold()) in with_picture:
            reason, remedy = "the picture has another caption, which is used", "keep one of them"
        else:
            reason, remedy = "is a caption without a picture", "add or remove one"
            problems.append(Problem(shown(folder, path), "warning", reason, remedy))
        found.entries.append(passed_over(shown(folder, path), "", "caption", text or "", reason, remedy))
    for path in listed:
        if path not in pictures and path not in captions and path.name.lower() not in TABLES:
            reason, remedy = _why_no_picture(path)
            if _ABOUT.match(path.name):
                found.entries.append(passed_over(shown(folder, path), "", "file", path.name, reason, remedy))
            else:
                _pass_over(found, problems, folder, path, reason, remedy)
    return found


def _pass_over(
    found: PictureFiles, problems: list[Problem], folder: Path, path: Path, reason: str, remedy: str
) -> None:
    """Name a file that is not read, in the table and in the ledger."""
    problems.append(Problem(shown(folder, path), "warning", reason, remedy))
    found.entries.append(passed_over(shown(folder, path), "", "file", path.name, reason, remedy))


def _why_no_picture(path: Path) -> tuple[str, str]:
    suffix = path.suffix.lower()
    if path.is_symlink() and path.is_dir():
        return "is a link to a folder and is not followed", "copy the pictures in"
    if path.is_dir():
        return "is a folder too deep inside others and is not read", "move its pictures up"
    if not path.is_file():
        return "is not a plain file and is not read", "remove it"
    try:
        with path.open("rb") as file:
            kind = what_it_is(file.read(64))
    except OSError as error:
        return f"cannot be read ({error.strerror})", "make the file readable for you"
    if suffix in SUFFIXES and not kind.plugin:
        return kind.problem, kind.remedy
    if kind.plugin:
        right = FORMATS[kind.plugin][0]
        return f"is a {kind.plugin} picture without its extension and is not read", f"rename it to {path.name}{right}"
    if suffix in UNREAD_SUFFIXES or kind.problem.endswith("which is not read"):
        return f"is not read ({suffix or 'no extension'})", "save it as PNG or JPEG"
    return "is neither a picture nor a caption and is not read", "captions are called like their picture, 01.txt"


def _named(folder: Path, pictures: list[Path], problems: list[Problem]) -> dict[str, Path]:
    """File by name in natural order. A name that occurs in several folders gets the folder's in front."""
    usable = [path for path in pictures if _is_usable(folder, path, problems)]
    folders: dict[str, set[Path]] = {}
    for path in usable:
        folders.setdefault(normal(path.stem), set()).add(path.parent)
    named: dict[str, Path] = {}
    for path in usable:
        stem = normal(path.stem)
        name = stem if len(folders[stem]) == 1 else f"{normal(path.parent.name)} {stem}"
        if name in named:
            problems.append(
                Problem(
                    shown(folder, path),
                    "error",
                    f"has the same name as {named[name].name}",
                    "rename one of them: dialogues name a picture without its extension",
                )
            )
        else:
            named[name] = path
    return dict(sorted(named.items(), key=lambda item: natural_key(item[0])))


def _is_usable(folder: Path, path: Path, problems: list[Problem]) -> bool:
    refused = outside(folder, path)
    if refused is None and not is_utf8(path.name):
        refused = Problem(shown(folder, path), "error", "has a name that is not UTF-8", "rename it, e.g. 01.png")
    if refused is not None:
        problems.append(refused)
    return refused is None


def _read_captions(folder: Path, captions: list[Path], found: PictureFiles, problems: list[Problem]) -> set[Path]:
    """Fill in the captions that lie beside their pictures; returns the files that were used."""
    beside = {(path.parent, normal(path.name)): path for path in captions}
    folded = {(path.parent, normal(path.name).casefold()): path for path in reversed(captions)}
    used: set[Path] = set()
    for name, picture in found.pictures.items():
        for called in _caption_names(picture):
            path = beside.get((picture.parent, called)) or folded.get((picture.parent, called.casefold()))
            if path is None:
                continue
            used.add(path)
            text = read_text(folder, path, problems)
            if text is not None and text.strip():
                found.captions[name] = " ".join(tidied(text).split())
            elif text is not None:
                problems.append(Problem(shown(folder, path), "warning", "is empty", "write what varies in the picture"))
            break
    return used


def _caption_names(picture: Path) -> Iterable[str]:
    """What the caption of a picture may be called, the likeliest first: 01.txt, 01.png.txt, 01.caption."""
    for suffix in CAPTION_SUFFIXES:
        yield normal(f"{picture.stem}{suffix}")
        yield normal(f"{picture.name}{suffix}")


def _table(directory: Path) -> Path | None:
    return next((directory / name for name in TABLES if (directory / name).is_file()), None)


def _read_table(folder: Path, table: Path, found: PictureFiles, problems: list[Problem]) -> None:
    """Captions of a data set's table, for pictures that have none beside them."""
    file, text = shown(folder, table), read_text(folder, table, problems)
    by_path = {normal(path.relative_to(table.parent).as_posix()): name for name, path in found.pictures.items()
               if path.is_relative_to(table.parent)}  # fmt: skip
    for number, row in _rows(table, text or ""):
        place, caption = f"line {number}", _first_text(row)
        name = by_path.get(normal(str(row.get("file_name", "")).replace("\\", "/")) if row else "")
        if row is None or name is None or not caption:
            reason = (
                "cannot be parsed" if row is None
                else "has no text, caption or prompt" if name is not None
                else "names a picture that is not there"
            )  # fmt: skip
            problems.append(Problem(f"{file}:{number}", "warning", reason, "mend or remove the line"))
            found.entries.append(passed_over(file, place, "caption", caption, reason, "mend or remove the line"))
        elif name in found.captions:
            reason = "the picture has a caption of its own, which is used"
            found.entries.append(passed_over(file, place, "caption", caption, reason))
        else:
            found.captions[name] = caption


def _rows(table: Path, text: str) -> Iterable[tuple[int, dict[str, Any] | None]]:
    """Line and row of a table's entries, None for a line that is none."""
    if table.suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text))
        try:
            yield from ((reader.line_num, row) for row in reader)
        except csv.Error:
            yield reader.line_num, None
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = parse_json(line)
            except (ValueError, RecursionError):
                row = None
            yield number, row if isinstance(row, dict) else None


def _first_text(row: dict[str, Any] | None) -> str:
    values = (row.get(key) for key in TEXT_KEYS) if row else ()
    return next((" ".join(tidied(value).split()) for value in values if isinstance(value, str) and value.strip()), "")
