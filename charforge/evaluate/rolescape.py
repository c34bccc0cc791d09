"""The RoleScape release, read as it is: every item of its evaluation files, with what is wrong of those that cannot be
read.

Two layouts are known: that of the release (``train/NAME`` beside ``test/NAME``, perhaps in ``data/personalized_data``),
and one folder for each character with ``train`` and ``test`` in it. Nothing is trained on what is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charforge.character.json_text import parse_json
from charforge.character.listing import natural_key
from charforge.errors import InputError, Problem
from charforge.evaluate.questions import Choice

PROFILE = "_full_profile.txt"
SEEDS = "annotation.json"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
INSIDE = ("", "data/personalized_data")
"""Where the characters lie in what somebody calls the release."""


@dataclass(frozen=True)
class Line:
    """What the user says and what the character said to it; ``image`` names the picture that came with the reply."""

    user: str
    reply: str
    image: str = ""


@dataclass(frozen=True)
class Looked:
    """A question about the training picture ``image``."""

    image: str
    choice: Choice


@dataclass
class Release:
    """One character of the release. Pictures are files by their number.

    ``known_lines`` and ``known_questions`` are what its training files ask; ``problems`` are the items that could not
    be read, each with its file and number.
    """

    name: str
    folder: str
    profile: str = ""
    """What its training files tell of it, as a judge reads it."""
    train_pictures: dict[str, Path] = field(default_factory=dict)
    test_pictures: dict[str, Path] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    """Of the test pictures."""
    scenes: list[Line] = field(default_factory=list)
    """The conversations that belong to the test pictures."""
    dialogues: list[Line] = field(default_factory=list)
    knowledge: list[Choice] = field(default_factory=list)
    looks: list[Looked] = field(default_factory=list)
    memorization: list[str] = field(default_factory=list)
    personality: list[str] = field(default_factory=list)
    known_lines: list[str] = field(default_factory=list)
    known_questions: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def parsed(self) -> dict[str, int]:
        """How many items of each kind were read."""
        kinds = ("captions", "scenes", "dialogues", "knowledge", "looks", "memorization", "personality")
        return {kind: len(getattr(self, kind)) for kind in kinds}


def read_release(path: Path) -> list[Release]:
    """All characters under ``path``, in the order of their names. Raises InputError where there is none."""
    if not path.is_dir():
        raise InputError(f"--benchmark rolescape {path}: there is no such folder; name the folder of the release")
    found = [_read(name, train, test) for name, (train, test) in sorted(_folders(path).items())]
    if not found:
        raise InputError(
            f"--benchmark rolescape {path}: no character lies there; name the folder in which each has a folder train "
            f"with {SEEDS}"
        )
    return found


def _folders(path: Path) -> dict[str, tuple[Path, Path | None]]:
    """Training and test folder of each character, by the name of its folder."""
    found: dict[str, tuple[Path, Path | None]] = {}
    for inside in INSIDE:
        root = path / inside
        for train in sorted(root.glob("train/*")):
            if (train / SEEDS).is_file():
                found[train.name] = (train, _if_folder(root / "test" / train.name))
        for character in [root, *sorted(root.glob("*"))]:
            if (character / "train" / SEEDS).is_file():
                found[character.resolve().name] = (character / "train", _if_folder(character / "test"))
    return found


def _if_folder(path: Path) -> Path | None:
    return path if path.is_dir() else None


def _read(folder: str, train: Path, test: Path | None) -> Release:
    profiles = sorted(file for file in train.glob(f"*{PROFILE}") if not file.name.startswith("."))
    name = profiles[0].name.removesuffix(PROFILE).replace("_", " ").strip() if profiles else folder.split("-")[-1]
    release = Release(name, folder, _profile(profiles[0]) if profiles else "")
    release.train_pictures = _pictures(train)
    items = _Items(train, release.problems)
    for line in items.each("dialogue_text_extension_train", "scenes", _line):
        release.known_lines.append(line.user)
    for line in items.each("annotation", "scenes", _line):
        release.known_lines.append(line.user)
    release.dialogues = list(items.each("dialogue_text_extension_test", "scenes", _line))
    release.known_questions = list(items.each("knowledge_qa", "qa_items", lambda item: _text(item, "question")))
    release.knowledge = list(items.each("knowledge_qa_test", "mcq_items", _choice))
    release.memorization = list(items.each("memorization_test", "test_questions", _prompt))
    release.personality = list(items.each("personality_test", "test_questions", _prompt))
    for image, item in _about_pictures(items):
        release.looks += [Looked(image, choice) for choice in items.of(item.get("mcq_items", []), _choice, image)]
        release.known_questions += [
            f"{image}: {question}"
            for question in items.of(item.get("qa_pairs", []), lambda pair: _text(pair, "question"), image)
        ]
    if test is not None:
        release.test_pictures = _pictures(test)
        others = _Items(test, release.problems)
        release.scenes = list(others.each("annotation", "scenes", _line))
        captions = others.each("t2i_instruction", "t2i_instructions", _caption)
        release.captions = {image: text for image, text in captions if image in release.test_pictures}
    return release


def _profile(file: Path) -> str:
    return file.read_text("utf-8-sig", errors="replace").strip()


def _pictures(folder: Path) -> dict[str, Path]:
    files = sorted(folder.iterdir(), key=lambda file: natural_key(file.name))
    return {file.stem: file for file in files if file.suffix.lower() in PICTURES and file.stem.isdigit()}


def _about_pictures(items: _Items) -> Iterator[tuple[str, dict[str, Any]]]:
    for scene in items.each("with_image", "scenes", lambda scene: scene):
        turns = scene if isinstance(scene, list) else []
        for turn in turns:
            if isinstance(turn, dict) and turn.get("role") == "machine" and "image" in turn:
                yield str(turn["image"]), turn


@dataclass(frozen=True)
class _Items:
    """The items of one folder's files. What cannot be read becomes a problem with its place."""

    folder: Path
    problems: list[Problem]

    def each(self, ending: str, key: str, read: Callable[[Any], Any]) -> Iterator[Any]:
        """The items of the list ``key`` in the file named so; without the file there are none."""
        plain = self.folder / f"{ending}.json"
        files = [plain] if plain.is_file() else sorted(self.folder.glob(f"*_{ending}.json"))
        for file in files[:1]:
            try:
                document = parse_json(file.read_text("utf-8-sig"))
                items = document[key]
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                told = f"does not hold a list {key!r} ({type(error).__name__})"
                self.problems.append(Problem(_shown(file), "error", told, "use the file as released"))
                continue
            yield from self.of(items, read, _shown(file))

    def of(self, items: Any, read: Callable[[Any], Any], where: str) -> Iterator[Any]:
        """Each item as ``read`` makes it."""
        if not isinstance(items, list):
            self.problems.append(Problem(where, "error", "is no list of items", "use the file as released"))
            return
        for number, item in enumerate(items, start=1):
            try:
                yield read(item)
            except (KeyError, TypeError, ValueError, IndexError) as error:
                told = f"cannot be read ({type(error).__name__}: {error})"
                self.problems.append(Problem(f"{where}: item {number}", "warning", told, "the item is left out"))


def _shown(file: Path) -> str:
    return "/".join(file.parts[-3:])


def _text(item: Any, key: str) -> str:
    value = item[key]
    if not isinstance(value, str | int | float) or not str(value).strip():
        raise ValueError(f"{key} is no text")
    return " ".join(str(value).split())


def _line(scene: Any) -> Line:
    said = {turn["role"]: turn for turn in reversed(scene)}
    user, machine = said["user"], said["machine"]
    return Line(_text(user, "text"), _text(machine, "text"), str(machine.get("image", "")))


def _caption(item: Any) -> tuple[str, str]:
    return str(item["image_id"]), _text(item, "t2i_instruction")


def _prompt(item: Any) -> str:
    if not isinstance(item, str) or not item.strip():
        raise ValueError("it is no text")
    # two thirds of the release's prompts carry stray quotes and asterisks
    return " ".join(item.split()).strip("\"'*“”").strip()


def _choice(item: Any) -> Choice:
    options = {key: _text(item["options"], key) for key in sorted(item["options"]) if len(key) == 1}
    key = str(item["answer_key"]).strip().upper()
    if key not in options or len(options) < 2:
        raise ValueError(f"its key {key!r} is none of its options {', '.join(options)}")
    return Choice(_text(item, "question"), tuple(options.values()), list(options).index(key))
