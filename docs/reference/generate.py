"""Writes the pages of docs/reference from the code: ``python docs/reference/generate.py``.

What a page says of a command, a setting or a field stands in the code, beside the thing itself: change it there and run
this again. tests/test_reference.py fails while a page is not what this would write.
"""

from __future__ import annotations

import json
import re
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from charforge.bundle import manifest, read
from charforge.character import picture_folder, picture_kinds, pictures, profile, speakers
from charforge.character import read as read_folder
from charforge.character.cards.card import CARD_FORMATS
from charforge.character.contents import CARD_SUFFIXES, CHATS, DIALOGUES, FACTS, LOG_SUFFIXES
from charforge.character.listing import DEEPEST
from charforge.character.readers.table import FORMATS
from charforge.cli.main import app
from charforge.expand import pairs
from charforge.kinds import TASKS
from charforge.resources import preset_names, preset_path
from charforge.settings.described import Setting, in_toml, preset_values, sections, settings_rows

FOLDER = Path(__file__).parent
COMMAND = "python docs/reference/generate.py"
NOTE = f"<!-- Written by `{COMMAND}` from the code. Do not edit this page: change the words in the code. -->\n"
WIDTH = 120
EVERYWHERE = ("-q, --quiet", "-v, --verbose", "--help", "-h, --help")
"""Options that every command has."""
VALUES = {
    "<str>": "TEXT", "<path>": "PATH", "<int>": "N", "<int range>": "N", "<float>": "X", "<float range>": "X",
    "<list[str]>": "KEY=VALUE", "<list[Path]>": "",
}  # fmt: skip


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def prose(text: str) -> str:
    """A paragraph, in lines as long as those of the code."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def listed(words: Iterable[str]) -> str:
    """``a``, ``b``, ``c``"""
    return ", ".join(f"`{word}`" for word in words)


# commands


def commands_page() -> str:
    """Every command with its examples, arguments, options and defaults."""
    group = typer.main.get_command(app)
    context: Any = group.context_class(group, info_name="charforge")
    found = list(commands(group, context))
    links = [(f"[`{path}`](#{path.replace(' ', '-')})", summary(command.help)) for path, command, _ in found]
    parts = [
        "# Commands\n",
        NOTE,
        prose(
            "Results and JSON go to stdout, everything for people to stderr. Exit codes: 0 success, 1 the input is "
            "bad, 2 the command was used wrongly, 3 the machine cannot do it, 70 a fault of charforge itself, 130 "
            "interrupted."
        ),
        table(("command", "what it does"), links),
        prose(
            "Every command also has `-q`, `--quiet` (say nothing but errors), `-v`, `--verbose` (say more) and `-h`, "
            "`--help`. `charforge --version` says which version this is; `charforge --install-completion` teaches your "
            "shell the commands."
        ),
    ]
    return "\n".join([*parts, *(command_section(*one) for one in found)])


def commands(group: Any, context: Any) -> Iterator[tuple[str, Any, Any]]:
    """(name with its group's, command, context) of every command that does something, in the order of ``--help``."""
    for name, command in group.commands.items():
        inner = command.context_class(command, info_name=name, parent=context)
        if hasattr(command, "commands"):
            yield from commands(command, inner)
        else:
            yield inner.command_path, command, inner


def summary(text: str) -> str:
    """The first paragraph of a command's help."""
    return " ".join(text.split("\n\n")[0].split())


def command_section(path: str, command: Any, context: Any) -> str:
    """One command: what it does, its examples, a table of arguments and one of options."""
    words, _, examples = command.help.partition("\b\nExamples:\n")
    # by its pieces: whole, it would be broken where the terminal ends
    usage = " ".join([path, *command.collect_usage_pieces(context)]).replace("{", "").replace("}", "")
    rows = [param_row(param, context) for param in command.get_params(context) if param.get_help_record(context)]
    rows = [row for row in rows if row[0].replace("`", "") not in EVERYWHERE]
    parts = [
        f"## {path}\n",
        *(prose(" ".join(paragraph.split())) for paragraph in words.strip().split("\n\n")),
        f"```sh\n{chr(10).join(line.strip() for line in examples.strip().splitlines())}\n```\n",
        prose(f"Usage: `{usage}`"),
        table(("argument or option", "what it says", "default, limits"), rows) if rows else "",
    ]
    return "\n".join(parts)


def param_row(param: Any, context: Any) -> tuple[str, str, str]:
    """(how it is written, what it says, its default or limits) of an argument or an option."""
    written, words = param.get_help_record(context)
    for kind, value in VALUES.items():
        written = written.replace(f" {kind}", "" if param.param_type_name == "argument" else f" {value}")
    found = re.fullmatch(r"(.*?)(?:  \[(.*)\])?", words, re.S)
    assert found is not None
    limits = (found[2] or "").replace("default: ", "").replace("x>=", "at least ").replace("<=x<=", " to ")
    return f"`{written}`", found[1], limits.replace(".0;", ";")


# settings


def settings_page() -> str:
    """Every setting with its description, and with the value that it has in each preset."""
    names = preset_names()
    values = {name: preset_values(preset_path(name)) for name in names}
    rows = list(settings_rows())
    parts = [
        "# Settings\n",
        NOTE,
        prose(
            "A preset holds what differs from the preset that it extends, or from the defaults. What comes later wins: "
            "preset, `charforge.toml` in the character's folder, `--set key=value`, options such as `--seed`. "
            "`charforge settings` prints the texts of this page, with `--preset NAME` the values of a preset too and "
            "the file that each stands in. A run keeps its resolved settings in `config.toml`."
        ),
        prose(
            'A preset of your own is a file, for example `mine.toml`: in its first line `extends = "bagel-24gb"` (the '
            "name of a preset, or of a `.toml` file beside it), below it what you change. `charforge train DIR "
            "--preset mine.toml` takes it."
        ),
        prose("Settings marked * do not decide the result: they may be changed while a run goes on."),
        "## What each does\n",
    ]
    about = {"": "Above all sections.", **sections()}
    for section in dict.fromkeys(row.section for row in rows):
        own = [row for row in rows if row.section == section]
        parts += [f"### [{section}]\n" if section else "### Base and seed\n", f"{about[section]}\n"]
        cells = [(marked(row), row.description, row.allowed, f"`{in_toml(row.default)}`") for row in own]
        parts.append(table(("setting", "what it does", "allowed", "default"), cells))
    parts += [
        "## In each preset\n",
        prose("Empty: the default. Settings that have their default in all of them are left out."),
    ]
    different = [row for row in rows if any(values[name][row.key].value != row.default for name in names)]
    cells = [(f"`{row.key}`", *(preset_cell(row, values[name][row.key].value) for name in names)) for row in different]
    parts.append(table(("setting", *names), cells))
    return "\n".join(parts)


def marked(row: Setting) -> str:
    return f"`{row.key}`{'' if row.decides else ' *'}"


def preset_cell(row: Setting, value: Any) -> str:
    return "" if value == row.default else in_toml(value)


# the character folder


def folder_page() -> str:
    """What files a character folder may hold, from the tables that the readers use."""
    fewest, good = read_folder.FEWEST_PICTURES, read_folder.GOOD_NUMBER_OF_PICTURES
    captions = [f"01{suffix}" for suffix in (picture_folder.CAPTION_SUFFIXES[0], ".png.txt")]
    captions += [f"01{suffix}" for suffix in picture_folder.CAPTION_SUFFIXES[1:]]
    places = [
        ("`character.md`", "Who the character is: front matter and sections, see below. A card may stand in its "
         "place."),
        (f"`{picture_folder.PLACES[0]}/`", f"The pictures: {good} are good, {fewest} the least. Folders inside it "
         f"count too. Also read: {listed(f'{name}/' for name in picture_folder.PLACES[1:])}; folders named like "
         "`10_wren person/`; or, without any, the pictures beside `character.md`."),
        ("captions", f"What varies in a picture, one line, beside `01.png`: {listed(captions)}. Or one table for all: "
         f"{listed(picture_folder.TABLES)} with `file_name` and {listed(picture_folder.TEXT_KEYS)}."),
        (listed(DIALOGUES), "Dialogues that you wrote. What is wrong in them is an error."),
        (f"`{CHATS[0]}/`", f"Logs of any program, in folders inside it too: {listed(LOG_SUFFIXES)}. Also read: "
         f"{listed(f'{name}/' for name in CHATS[1:])}. What is wrong in them is passed over and reported."),
        (listed(FACTS), "One fact a bullet."),
        ("`lorebook.json`", "A lorebook. Under any other name it is recognised by its keys."),
        ("`charforge.toml`", "Settings of this character, over those of the preset: see [settings](settings.md)."),
        ("any `.json` or `.jsonl` at the top", "By its keys: a card, a lorebook, or conversations in a format below."),
        ("a text at the top in which two names come back", "A log."),
        (listed(CARD_SUFFIXES), "At the top: a character card, where the file carries one. Without `character.md` and "
         "without a card at the top, the first picture that carries one."),
        ("`annotation.json`", "A folder of the RoleScape-20 release, read as it is."),
        ("anything else", "Named by `charforge check`, with what it should be called."),
    ]  # fmt: skip
    headings = [(f"{name.capitalize()}", listed(titles)) for name, titles in profile.SECTIONS.items()]
    kinds = [(name, listed(suffixes)) for name, suffixes in picture_kinds.FORMATS.items()]
    conversations = [(form.name, form.keys, form.about) for form in FORMATS]
    return "\n".join([
        "# The character folder\n",
        NOTE,
        prose(
            "`charforge new DIR` makes a folder with an example of every file. `charforge check DIR` says what was "
            "taken from each file and what was passed over, `--verbose` why. Nothing in the folder is ever changed."
        ),
        prose(
            f"Names of files are compared without case. Folders are looked into {DEEPEST} deep. Files of the operating "
            "system (`.DS_Store`, `._01.png`, `Thumbs.db`) are skipped."
        ),
        table(("file", "read as"), places),
        "## character.md\n",
        prose(
            "Front matter between two lines `---`, one `key: value` a line. `name` must be there or in a card."
        ),
        table(("key", "what it says"), [(f"`{key}`", words) for key, words in profile.FRONT_KEYS.items()]),
        prose("Below it prose under headings, in any case:"),
        table(("section", "headings"), headings),
        "## Pictures\n",
        prose(
            f"The kind is seen in the file, not in its name. The shorter side has {pictures.MIN_SIDE} pixels at least, "
            f"and the picture has {pictures.MAX_PIXELS // 1_000_000} million at most. HEIF needs `pip install "
            "'charforge[heic]'`."
        ),
        table(("kind", "extensions"), kinds),
        "## Conversations\n",
        prose(
            "A JSON or JSON Lines file is read by the first of these that recognises it:"
        ),
        table(("format", "recognised by", "to know"), conversations),
        prose(
            "In plain text a name stands before the words: `User: Hello.` The user may also be called "
            f"{listed(words_of(speakers.USER_ROLES))}, the character by its name or "
            f"{listed(words_of(speakers.CHARACTER_ROLES))}. Anybody else is context and never learned."
        ),
        "## Cards and lorebooks\n",
        prose(
            f"Cards: {', '.join(form.name for form in CARD_FORMATS)}; as JSON, in a PNG, APNG, WEBP or JPEG, or as "
            "CHARX. Where `character.md` says something too, it is right. Lorebooks: of cards, SillyTavern, NovelAI, "
            "Agnai, RisuAI and KoboldAI. RisuAI's packed modules (`.risum`) are not read: export the lorebook inside "
            "as JSON."
        ),
    ])  # fmt: skip


def words_of(roles: Iterable[str]) -> list[str]:
    """The role words that are words, in order."""
    return sorted(role for role in roles if role.isalpha())


# pairs


def pairs_page() -> str:
    """Tasks and fields of the training pairs."""
    answer = pairs.Pair(
        id="knowledge-0001", task="knowledge", split="train", origin="name", source="Wren, a voxel person",
        parts=(
            pairs.TextPart(role="system", text="You are Wren, a voxel person."),
            pairs.TextPart(role="user", text="Who are you?"),
            pairs.TextPart(role="assistant", text="I am Wren, a voxel person.", loss=True),
        ),
    )  # fmt: skip
    drawing = pairs.Pair(
        id="text_to_image-0001", task="text_to_image", split="train", origin="picture 01",
        parts=(
            pairs.TextPart(role=None, text="Wren, a voxel person, smiling, in a workshop"),
            pairs.ImagePart(image="01", use="draw", loss=True),
        ),
    )  # fmt: skip
    examples = [json.dumps(example.model_dump(exclude_defaults=True)) for example in (answer, drawing)]
    return "\n".join([
        "# Training pairs\n",
        NOTE,
        prose(
            "`charforge expand DIR --out pairs.jsonl` writes them, `charforge train DIR --pairs pairs.jsonl` trains "
            "on them, and a run keeps those it trained on in `pairs/pairs.jsonl`. The file is UTF-8, one JSON object "
            "a line; empty lines are skipped. Edit it as you like: a line that does not fit is an error that names "
            "the line."
        ),
        f"```json\n{chr(10).join(examples)}\n```\n",
        "## Tasks\n",
        table(("task", "what is learned"), [(f"`{task}`", words) for task, words in TASKS.items()]),
        "## A pair\n",
        fields_table(pairs.Pair),
        "## A text in `parts`\n",
        fields_table(pairs.TextPart),
        "## A picture in `parts`\n",
        fields_table(pairs.ImagePart),
        "## Files beside it\n",
        table(("file", "what it holds"), [
            ("`pairs.html`", "A page to look through the pairs, with their pictures; `--no-page` leaves it out."),
            ("`pairs.dropped.jsonl`", "Pairs that were written and not kept, and sentences of yours that are in no "
             "pair: each with `reason`."),
            ("`pairs.ledger.json`", "What was read from your files, what was changed on the way and what was passed "
             "over."),
            ("`pairs.written.jsonl`", "What a writer other than `template` wrote: an interrupted expansion goes on "
             "from it."),
        ]),
    ])  # fmt: skip


# bundles


def bundle_page() -> str:
    """Members of a .charx and the fields of charforge.json."""
    inner = [
        (name, field.annotation)
        for name, field in manifest.Manifest.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    ]
    parts = [
        "# Bundles\n",
        NOTE,
        prose(
            "A `.charx` file is a zip and an ordinary character card: any front end that reads Character Card V2 or "
            "V3 reads it. charforge finds in it the adapter that makes a base speak and draw as the character. The "
            "same content gives the same bytes. No picture that was trained on is in it."
        ),
        prose(
            "`charforge inspect FILE` verifies a bundle as strictly as loading it does."
        ),
        "## Members\n",
        table(("member", "what it is"), [(f"`{name}`", words) for name, words in manifest.MEMBERS.items()]),
        prose(
            f"A bundle may also have `{manifest.SPRITES}NAME.png`, pictures of expressions that `charforge export "
            "--sprites` drew; the card lists them as `emotion` assets. A signature lies beside the file, as `FILE.sig`."
        ),
        "## What is refused\n",
        prose(
            "A bundle may come from anybody, so everything is checked before anything is used: a missing member, one "
            "that `charforge.json` does not list, a wrong hash, an unsafe name, a link, an encrypted member, JSON "
            "that does not fit, an adapter that is no LoRA of the rank it claims, that does not fit its base, that "
            "holds values that are no numbers, or that changes nothing; a signature beside the file that does not "
            "belong to it."
        ),
        table(("limit", ""), [
            ("members", f"{read.MAX_MEMBERS}"),
            ("the adapter, unpacked", f"{read.MAX_ADAPTER >> 30} GiB"),
            ("any other member, unpacked", f"{read.MAX_OTHER >> 20} MiB"),
            ("how far a member may be compressed", f"1 : {read.MAX_RATIO}"),
            ("a side of a picture", f"{read.MAX_SIDE} pixels"),
            ("kinds of members", listed(sorted(read.EXTENSIONS))),
        ]),
        "## charforge.json\n",
        fields_table(manifest.Manifest),
    ]  # fmt: skip
    for name, model in inner:
        parts += [f"### `{name}`\n", fields_table(model)]
    return "\n".join(parts)


# fields of models


def fields_table(model: type[BaseModel]) -> str:
    """Name, type, description and default of every field of a model."""
    rows = []
    for name, field in model.model_fields.items():
        default = "required" if field.default is PydanticUndefined else f"`{json.dumps(plain(field.default))}`"
        rows.append((f"`{name}`", kind_of(field.annotation), field.description or "", default))
    return table(("field", "type", "what it says", "default"), rows)


def plain(value: Any) -> Any:
    """A default as JSON has it."""
    return value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value


def kind_of(kind: Any) -> str:
    """A type in words."""
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in names:
        return names[kind]
    if origin is typing.Literal:
        return ", ".join("null" if one is None else f"`{one}`" for one in inner)
    if origin is tuple:
        return f"list of {'texts' if inner[0] is str else 'parts'}"
    if origin is dict:
        return "object"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "object, see below"
    return " or ".join(kind_of(one) for one in inner)


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "settings.md": settings_page,
    "folder.md": folder_page,
    "pairs.md": pairs_page,
    "bundle.md": bundle_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), "utf-8")
