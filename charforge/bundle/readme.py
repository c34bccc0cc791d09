"""The texts for people: the README inside a bundle, and how to speak to the model for whoever writes a client."""

from __future__ import annotations

from pathlib import PurePath

from charforge import grammar
from charforge.bundle.manifest import Manifest
from charforge.words import called, file_stem


def one_line(text: str, longest: int = 300) -> str:
    """Text of a character as part of a line of Markdown: no line of its own, no heading, no table."""
    told = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return told if len(told) <= longest else f"{told[:longest]}…"


def shown_base(name: str) -> str:
    """A base's name for others: of a path its last part, for the rest is nobody's business."""
    return one_line(PurePath(name.replace("\\", "/")).name or name)


def bundle_readme(manifest: Manifest) -> str:
    """The README.md inside a bundle."""
    who, base = manifest.character, manifest.base
    name, author, terms = one_line(who.name), one_line(who.author), one_line(who.license)
    return f"""# {name}

{called(name, one_line(who.class_noun))}. By {author or "unknown"}, licence: {terms or "not stated"}.

This file is an ordinary character card (Character Card V3): any program that reads cards can play it. With charforge
it is a character that speaks and draws itself:

    pip install charforge
    charforge chat {file_stem(who.name)}.charx

Its adapter fits the base `{shown_base(base.name)}` ({base.content_hash[:12]}, {base.precision}) and no other.
It holds no training pictures.

{prompts_section(manifest)}"""


def prompts_section(manifest: Manifest) -> str:
    """How to speak to the model so that it answers as in training: the exact strings, with examples."""
    character = manifest.to_character()
    plan = grammar.plan_line(grammar.caption_with_name(character, "smiling, in a forest"))
    prompt = grammar.picture_prompt(
        character, grammar.caption_with_name(character, "smiling, in a forest"), "Look, I am here!"
    )
    return f"""## How to speak to it

The adapter was trained with these words. Others work less well.

System message of every conversation:

{_quoted(grammar.system_prompt(character))}

Then the turns of user and assistant. A reply that comes with a picture ends in a plan on a line of its own:

{_quoted(plan)}

The picture is drawn from the plan, a full stop, and up to {character.room.quote} words of the reply in quotes:

{_quoted(prompt)}

A picture without a conversation is drawn from a caption that begins with the name and the class:

{_quoted(grammar.caption_with_name(character, "smiling, in a forest"))}

Questions about facts were trained after this system message alone:

{_quoted(grammar.introduction(character))}
"""


def _quoted(text: str) -> str:
    """A block of code, whatever is in the text."""
    return "\n".join(f"    {one_line(line, 2000)}" for line in text.splitlines() or [""])
