"""The character card of a bundle: what every front end reads, whether or not it knows charforge."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from charforge import grammar
from charforge.bundle.manifest import AVATAR, Manifest, sprites_among
from charforge.bundle.readme import shown_base
from charforge.character import Dialogue
from charforge.character.cards.write import as_v3
from charforge.words import called

OURS = ("name", "assets", "extensions", "creator_notes")
"""What an imported card never decides alone."""
OTHER_PROGRAMS = (
    "This character draws itself with charforge: the .charx file holds a model adapter. Any program that reads "
    "character cards can play it without; the adapter needs `pip install charforge`, then `charforge chat FILE.charx`."
)
"""The line for people who open the file with something else."""


def character_card(
    manifest: Manifest, dialogues: tuple[Dialogue, ...], original: dict[str, Any] | None = None,
    members: Iterable[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """A Character Card V3 with all V2 fields too, as front ends really read them.

    ``original`` is the document of the card that the character came from: what it says stays, unknown keys and
    extensions included; only the name, the assets and our own extensions are new, and our line follows its notes.
    ``members`` are those of the bundle: its pictures of expressions are listed as assets.
    """
    who = manifest.character
    description = "\n".join(
        part for part in (f"{called(who.name, who.class_noun)}.", who.persona, who.appearance) if part
    )
    written = _seconds(manifest.created)
    data: dict[str, Any] = {
        "name": who.name,
        "description": description,
        "personality": who.voice,
        "scenario": "",
        "first_mes": who.opening,
        "mes_example": _examples(dialogues[:8]),
        # the words that stood before every conversation in training
        "system_prompt": grammar.system_prompt(manifest.to_character()),
        # nothing stood after the history in training: what stands there is read by the model all the same
        "post_history_instructions": "",
        "alternate_greetings": [],
        "group_only_greetings": [],
        "tags": [],
        "creator": who.author,
        "character_version": "1",
        **({"creation_date": written, "modification_date": written} if written is not None else {}),
    }
    if who.facts:
        data["character_book"] = {"extensions": {}, "entries": _entries(who.facts)}
    before = original["data"] if original is not None else {}
    kept = {key: value for key, value in before.items() if value not in ("", None, []) and key not in OURS}
    if written is not None:
        kept.pop("modification_date", None)
    foreign = before.get("extensions")
    data |= kept
    data |= {
        "creator_notes": _notes(before.get("creator_notes"), manifest),
        "extensions": _extensions(manifest, foreign if isinstance(foreign, dict) else {}),
        # not the adapter: RisuAI refuses a card of which a listed asset is larger than 50 MiB
        "assets": [
            {"type": "icon", "uri": f"embeded://{AVATAR}", "name": "main", "ext": "png"},
            *(
                {"type": "emotion", "uri": f"embeded://{member}", "name": label, "ext": "png"}
                for label, member in sprites_among(members).items()
            ),
        ],
    }
    return as_v3({**(original or {}), "data": data})


def _entries(facts: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "keys": [], "content": fact, "extensions": {}, "enabled": True, "insertion_order": number,
            "use_regex": False, "constant": True,
        }
        for number, fact in enumerate(facts)
    ]  # fmt: skip


def _notes(before: Any, manifest: Manifest) -> str:
    own = f"Made with charforge {manifest.charforge_version}. {OTHER_PROGRAMS}"
    if not isinstance(before, str) or not before.strip():
        return own
    # a card that came from a bundle carries the line already
    return before if OTHER_PROGRAMS in before else f"{before}\n\n{own}"


def _extensions(manifest: Manifest, foreign: dict[str, Any]) -> dict[str, Any]:
    """Those of the original card, a prompt for pictures where it has none, and ours."""
    who, base = manifest.character, manifest.base
    # SillyTavern puts it before every picture's prompt: the words with which the name was learned
    prompt = {"positive": grammar.who(manifest.to_character()), "negative": ""}
    return {
        "sd_character_prompt": prompt,
        **foreign,
        "charforge/license": who.license,
        "charforge/base": {"name": shown_base(base.name), "repository": base.repository, "revision": base.revision},
        "charforge/sampling": {"text": manifest.chat.model_dump(), "picture": manifest.sampling},
        "charforge/evaluation": manifest.evaluation,
    }


def _seconds(day: str) -> int | None:
    """The beginning of a day (ISO) in seconds of Unix time; None where it is no day."""
    try:
        return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _examples(dialogues: tuple[Dialogue, ...]) -> str:
    blocks = []
    for dialogue in dialogues:
        lines = [f"{'{{user}}' if turn.role == 'user' else '{{char}}'}: {turn.text}" for turn in dialogue.turns]
        blocks.append("\n".join(["<START>", *lines]))
    return "\n".join(blocks)
