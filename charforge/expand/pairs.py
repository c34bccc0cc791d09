"""Training pairs: plain JSONL, one pair a line, that a person can read, edit and train again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from charforge.errors import InputError, Problem
from charforge.expand.near_sets import NearSets, frequencies
from charforge.files import write_atomic
from charforge.kinds import TASKS


def _known_task(task: str) -> str:
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r}; there are {', '.join(TASKS)}")
    return task


Task = Annotated[str, AfterValidator(_known_task)]
"""One of those that the table of kinds names (charforge/kinds.py)."""
Split = Literal["train", "held_out"]
WriterName = Literal["template", "self", "endpoint"]


class TextPart(BaseModel):
    """A text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "user", "assistant"] | None = Field(
        description="Who says it. The assistant is the character; null is a bare text, such as a caption."
    )
    text: str = Field(min_length=1, description="The words, one character at least.")
    loss: bool = Field(False, description="Whether these words are learned. Only the assistant's can be.")

    @model_validator(mode="after")
    def _only_replies_are_learned(self) -> TextPart:
        if self.loss and self.role != "assistant":
            raise ValueError("only a part with the role assistant can have loss")
        return self


class ImagePart(BaseModel):
    """A picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str = Field(
        min_length=1,
        description="The name of a picture of the character: its file name without the extension.",
    )
    use: Literal["look", "draw"] = Field(
        description='"look": the picture is shown to the model before a question about it. "draw": it is learned to '
        "draw."
    )
    loss: bool = Field(False, description='Whether the picture is learned: true for "draw", false for "look".')

    @model_validator(mode="after")
    def _drawn_pictures_are_learned(self) -> ImagePart:
        if self.loss != (self.use == "draw"):
            raise ValueError('loss is true for "draw" and false for "look"')
        return self


def _kind(value: Any) -> str:
    has_image = "image" in value if isinstance(value, dict) else isinstance(value, ImagePart)
    return "image" if has_image else "text"


Part = Annotated[Annotated[TextPart, Tag("text")] | Annotated[ImagePart, Tag("image")], Discriminator(_kind)]


class Pair(BaseModel):
    """One training example."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1, description="A name of its own: no other pair of the file has it.")
    task: Task = Field(description="What is learned from it, see the tasks.")
    split: Split = Field(
        description='"train", or "held_out" for what is measured and never trained on. No training pair asks what a '
        "held-out pair asks."
    )
    origin: str = Field(
        description="What it was made from: a line of your files (dialogues.jsonl:3), a picture (picture 01) or a rule."
    )
    writer: WriterName = Field(
        "template",
        description='Who worded it: "template" (rules), "self" (the base), "endpoint" (a model behind --url).',
    )
    source: str = Field("", description="Your own sentence that the answer rests on, where there is one.")
    parts: tuple[Part, ...] = Field(
        description="Texts and pictures, in the order in which the model meets them. One part at least has loss."
    )

    @model_validator(mode="after")
    def _something_is_learned(self) -> Pair:
        if not any(part.loss for part in self.parts):
            raise ValueError("no part of the pair has loss: nothing would be learned from it")
        return self

    def texts(self, role: str | None) -> list[str]:
        """The texts of one role, in order (None: bare texts)."""
        return [part.text for part in self.parts if isinstance(part, TextPart) and part.role == role]

    def images(self, use: str) -> list[str]:
        """The names of the pictures that are looked at, or drawn."""
        return [part.image for part in self.parts if isinstance(part, ImagePart) and part.use == use]


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write pairs as UTF-8 JSON Lines, atomically."""
    lines = (json.dumps(pair.model_dump(), ensure_ascii=False) for pair in pairs)
    write_atomic(path, "".join(f"{line}\n" for line in lines))


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs back; every bad line is a problem with its number (InputError). Empty lines are skipped."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a plain file: name a file that charforge expand wrote.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): name a file that charforge expand wrote."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save the file as UTF-8.") from error
    problems: list[Problem] = []
    pairs: list[Pair] = []
    seen: dict[str, int] = {}
    # split("\n"), not splitlines(): a reply may hold U+2028, which JSON leaves as it is
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            pair = Pair.model_validate_json(line)
        except ValidationError as error:
            problems += [Problem(where, "error", _told(detail), "mend or remove the line") for detail in error.errors()]
            continue
        if pair.id in seen:
            problems.append(
                Problem(where, "error", f"has the id {pair.id!r} of line {seen[pair.id]}", "give it another id")
            )
        seen.setdefault(pair.id, number)
        pairs.append(pair)
    if problems:
        raise InputError(f"{path} has {len(problems)} bad entries.", problems)
    return pairs


def _told(detail: Any) -> str:
    place = ".".join(str(step) for step in detail["loc"] if step not in ("text", "image") or detail["loc"][-1] == step)
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"has an unknown key {place}"
    return f"{place}: {message}" if place else message


# prompts, to keep held-out ones out of training

_CONTRACTIONS = {
    "what's": "what is",
    "who's": "who is",
    "where's": "where is",
    "how's": "how is",
    "that's": "that is",
    "it's": "it is",
    "i'm": "i am",
    "you're": "you are",
    "we're": "we are",
    "they're": "they are",
    "can't": "cannot",
    "won't": "will not",
    "don't": "do not",
    "doesn't": "does not",
    "didn't": "did not",
    "isn't": "is not",
    "aren't": "are not",
    "you've": "you have",
    "i've": "i have",
    "i'd": "i would",
    "you'd": "you would",
    "i'll": "i will",
    "you'll": "you will",
    "let's": "let us",
    "there's": "there is",
    "wasn't": "was not",
    "haven't": "have not",
    "couldn't": "could not",
}
SIMILAR_PROMPTS, FEWEST_WORDS = 0.8, 4
"""Two prompts ask the same from this Jaccard index of their words, where both have so many words."""
_FILLERS = {"hey", "hi", "hello", "so", "well", "please", "tell", "me", "oh", "can", "you", "say"}


def prompt_key(text: str, name: str = "") -> str:
    """What a prompt asks, without case, marks, contractions, greetings and the name: rewordings share it."""
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower().replace("’", "'"))
    spelled = " ".join(_CONTRACTIONS.get(word, word) for word in words).split()
    own = set(re.findall(r"\w+", name.lower()))
    kept = [word for word in spelled if word not in own]
    while kept and kept[0] in _FILLERS and len(kept) > 1:
        kept = kept[1:]
    return " ".join(kept or spelled)


def prompts(pair: Pair) -> list[tuple[str, str]]:
    """(family, text) of everything in the pair that asks for something learned.

    Conversations share one family; a question about a picture counts together with the picture; what a picture is
    drawn from is a family of its own.
    """
    if pair.task in ("text_to_image", "roleplay_picture"):
        return [("draw", text) for text in pair.texts(None)]
    family = f"look:{','.join(pair.images('look'))}" if pair.task == "vqa" else "talk"
    asked: list[tuple[str, str]] = []
    last: str | None = None
    for part in pair.parts:
        if isinstance(part, TextPart) and part.role == "user":
            last = part.text
        elif isinstance(part, TextPart) and part.loss and last is not None:
            asked.append((family, last))
    return asked


def similar(first: str, second: str) -> bool:
    """Whether two prompt keys ask the same: equal, or at least 4 words of which 0.8 are shared (Jaccard)."""
    if first == second:
        return True
    one, other = set(first.split()), set(second.split())
    return min(len(one), len(other)) >= FEWEST_WORDS and len(one & other) >= SIMILAR_PROMPTS * len(one | other)


class PromptKeys:
    """Prompt keys by number, to find those that ask the same as another (``similar``)."""

    def __init__(self, keys: Sequence[str], asked: Iterable[str] = ()) -> None:
        """``asked``: every key that will be looked for and is not among ``keys``."""
        self._keys = keys
        sets = [frozenset(key.split()) for key in keys]
        frequency = frequencies([*sets, *(frozenset(key.split()) for key in asked)])
        self._near = NearSets(SIMILAR_PROMPTS, frequency)
        self._same: dict[str, list[int]] = {}
        for number, (key, words) in enumerate(zip(keys, sets, strict=True)):
            self._same.setdefault(key, []).append(number)
            if len(words) >= FEWEST_WORDS:
                self._near.add(number, words)

    def like(self, key: str) -> list[int]:
        """Numbers of the keys that ask what ``key`` asks."""
        words = frozenset(key.split())
        near = self._near.candidates(words) if len(words) >= FEWEST_WORDS else ()
        return sorted({*self._same.get(key, ()), *(n for n in near if similar(key, self._keys[n]))})


def leaked(pairs: Iterable[Pair], name: str = "") -> list[Pair]:
    """Training pairs that ask what a held-out pair asks, or that show a picture held out for drawing."""
    pairs = list(pairs)
    held = [pair for pair in pairs if pair.split == "held_out"]
    trained = [pair for pair in pairs if pair.split == "train"]
    asked = {pair.id: [(family, prompt_key(text, name)) for family, text in prompts(pair)] for pair in pairs}
    keys: dict[str, list[str]] = {}
    for pair in held:
        for family, key in asked[pair.id]:
            keys.setdefault(family, []).append(key)
    others = [key for pair in trained for _, key in asked[pair.id]]
    held_out = {family: PromptKeys(there, others) for family, there in keys.items()}
    drawn = {image for pair in held for image in pair.images("draw")}

    def asks_held_out(pair: Pair) -> Iterator[bool]:
        for family, key in asked[pair.id]:
            yield family in held_out and bool(held_out[family].like(key))
        yield bool(drawn & {*pair.images("draw"), *pair.images("look")})

    return [pair for pair in trained if any(asks_held_out(pair))]
