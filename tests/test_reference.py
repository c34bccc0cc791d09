"""The reference pages are what the code says today, and everything in them has words of its own."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from charforge.bundle.manifest import MEMBERS, REQUIRED, Manifest
from charforge.cli.main import app
from charforge.expand.pairs import ImagePart, Pair, TextPart
from charforge.kinds import TASKS

SCRIPT = Path(__file__).parent.parent / "docs" / "reference" / "generate.py"


def loaded_script() -> Any:
    """docs/reference/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = loaded_script()


@pytest.mark.parametrize("name", GENERATE.PAGES)
def test_a_page_is_what_the_code_says(name: str):
    written = (SCRIPT.parent / name).read_text("utf-8")
    assert written == GENERATE.PAGES[name](), f"docs/reference/{name} is out of date: run `{GENERATE.COMMAND}`"


def test_there_are_no_other_pages():
    assert {path.name for path in SCRIPT.parent.glob("*.md")} == set(GENERATE.PAGES)


def leaves(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(words of the command, the command) of everything that can be run."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*before, name))
        else:
            yield (*before, name), command


COMMANDS = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_argument_and_option_says_what_it_is(words: tuple[str, ...]):
    silent = [param.name for param in COMMANDS[words].params if len((param.help or "").split()) < 2]
    assert not silent


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_examples_of_a_command_can_be_run_as_they_stand(words: tuple[str, ...]):
    command = COMMANDS[words]
    examples = [line.strip() for line in command.help.partition("Examples:")[2].splitlines() if line.strip()]
    assert 1 <= len(examples) <= 3
    for example in examples:
        program, *arguments = shlex.split(example)
        assert program == "charforge" and tuple(arguments[: len(words)]) == words
        # reads the arguments as running it would, and raises where one is not known or not of its type
        command.make_context(example, arguments[len(words) :])


@pytest.mark.parametrize("group", ["charforge", "charforge base"])
def test_the_examples_of_a_group_are_of_its_commands(group: str):
    found: Any = typer.main.get_command(app)
    for word in group.split()[1:]:
        found = found.commands[word]
    examples = [line.strip() for line in found.help.partition("Examples:")[2].splitlines() if line.strip()]
    assert 1 <= len(examples) <= 3
    for example in examples:
        words = shlex.split(example)[1:]
        own = next(path for path in COMMANDS if tuple(words[: len(path)]) == path)
        COMMANDS[own].make_context(example, words[len(own) :])


def test_an_example_that_cannot_be_run_would_be_found():
    with pytest.raises(Exception, match="No such option"):
        COMMANDS[("train",)].make_context("train", ["examples/wren", "--nonsense"])


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """``model`` and the models among its fields."""
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from models(field.annotation)


@pytest.mark.parametrize("model", [*models(Manifest), Pair, TextPart, ImagePart], ids=lambda model: model.__name__)
def test_every_field_that_is_written_to_a_file_has_a_description(model: type[BaseModel]):
    assert not [name for name, field in model.model_fields.items() if not (field.description or "").endswith(".")]


def test_every_task_and_every_member_has_one():
    assert all(words.endswith(".") for words in TASKS.values())
    assert set(MEMBERS) == set(REQUIRED) and all(words.endswith(".") for words in MEMBERS.values())


@pytest.mark.parametrize("name", GENERATE.PAGES)
def test_links_lead_somewhere_and_no_cell_breaks_its_table(name: str):
    text = (SCRIPT.parent / name).read_text("utf-8")
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in text.splitlines()
                if line.startswith("#")}  # fmt: skip
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link[1:] in headings if link.startswith("#") else (SCRIPT.parent / link).is_file(), link
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(cells) == 1, block
