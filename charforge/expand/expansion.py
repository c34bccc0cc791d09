"""Character -> training pairs: hold out, write, filter, number."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from charforge import grammar
from charforge.character import Character
from charforge.character.ledger import Ledger
from charforge.expand.asking import Complete
from charforge.expand.authored import Authored, Unused, write_authored
from charforge.expand.drafts import numbered
from charforge.expand.filters import Dropped, duplicate_figures, keep_good, reasons
from charforge.expand.holdout import hold_out
from charforge.expand.looking import Sight
from charforge.expand.lore import unused_sentences
from charforge.expand.pairs import Pair, WriterName, leaked, write_pairs
from charforge.expand.scenes import Scene, write_scenes
from charforge.expand.template import template_drafts
from charforge.files import write_atomic
from charforge.settings import ExpandSettings

Judge = Callable[[Sequence[Pair]], Sequence[str | None]]
"""Reasons against authored pairs, in order: the base's own likelihood, see ``self_writer.likelihood_judge``."""


@dataclass(frozen=True)
class Author:
    """A language model that writes beside the rules.

    ``settings``: how much it is asked for. ``judge`` has the last word on what passed the filters.
    """

    name: WriterName
    complete: Complete
    settings: ExpandSettings = field(default_factory=ExpandSettings)
    judge: Judge | None = None
    sight: Sight | None = None
    """How it is asked what pictures show; None for one that is not."""


@dataclass(frozen=True)
class Expansion:
    """The pairs of a character, what was written but not kept, and what of the user's words is in no pair.

    ``ledger`` goes on from the character's: what was read, what was passed over then, and what is used nowhere.
    """

    pairs: list[Pair]
    dropped: list[Dropped]
    ledger: Ledger = field(default_factory=Ledger)
    scenes: tuple[Scene, ...] = ()
    """New scenes that a language model wrote for the second stage; it has its own beside them."""
    unused: tuple[Unused, ...] = ()
    """Pieces of a language model's answers of which no pair was made, each with the reason."""


def expand(
    character: Character,
    seed: int = 0,
    author: Author | None = None,
    strangers: Mapping[str, str] = MappingProxyType({}),
) -> Expansion:
    """Hundreds of training pairs from one character; without ``author`` the same arguments give the same pairs.

    Dialogues and one picture are held out before anything is written, together with everything that asks the same.
    No training pair repeats a held-out prompt or shows the held-out picture.
    """
    held = hold_out(character, seed)
    drafts = template_drafts(character, held, seed, strangers)
    authored = Authored()
    if author is not None:
        system = grammar.system_prompt(character)
        authored = write_authored(character, held, author.name, author.complete, author.settings, seed, system)
        drafts += authored.drafts
    kept, dropped = keep_good(numbered(drafts), character)
    if author is not None and author.judge is not None:
        own = [pair for pair in kept if pair.writer == author.name]
        against = {pair.id: why for pair, why in zip(own, author.judge(own), strict=True) if why}
        dropped += [Dropped(pair, against[pair.id]) for pair in kept if pair.id in against]
        kept = [pair for pair in kept if pair.id not in against]
    answers = [text for pair in kept if pair.task == "knowledge" for text in pair.texts("assistant")]
    ledger = character.ledger + Ledger(tuple(unused_sentences(character, answers)))
    return Expansion(kept, dropped, ledger, tuple(authored.scenes), tuple(authored.unused))


def summary(expansion: Expansion, name: str) -> dict[str, Any]:
    """What ``charforge expand --json`` reports; the figures are counted again on the finished list."""
    exact, near = duplicate_figures(expansion.pairs, name)
    return {
        "tasks": dict(Counter(pair.task for pair in expansion.pairs)),
        "writers": dict(Counter(pair.writer for pair in expansion.pairs)),
        "held_out": sum(pair.split == "held_out" for pair in expansion.pairs),
        "exact_duplicates": exact,
        "near_duplicate_share": round(near, 4),
        "leaked": len(leaked(expansion.pairs, name)),
        "dropped": reasons(expansion.dropped, expansion.unused),
        "scenes": len(expansion.scenes),
        "passed_over": len(expansion.ledger.passed_over),
    }


def dropped_file(pairs_file: Path) -> Path:
    """Where the dropped pairs of ``pairs_file`` are listed."""
    return pairs_file.with_name(f"{pairs_file.stem}.dropped.jsonl")


def ledger_file(pairs_file: Path) -> Path:
    """Where stands what was read for ``pairs_file``, and what of it is in no pair."""
    return pairs_file.with_name(f"{pairs_file.stem}.ledger.json")


def scenes_file(pairs_file: Path) -> Path:
    """Where new scenes stand that a language model wrote beside ``pairs_file``."""
    return pairs_file.with_name(f"{pairs_file.stem}.scenes.jsonl")


def write_expansion(path: Path, expansion: Expansion) -> None:
    """The pairs as JSON Lines, and beside them the dropped pairs and sentences with their reasons, and the ledger."""
    lines = [{"reason": item.reason, **item.pair.model_dump()} for item in expansion.dropped]
    lines += [{"reason": piece.reason, "asked_for": piece.kind, "text": piece.text} for piece in expansion.unused]
    lines += [
        {"reason": entry.reason, "sentence": entry.text, "file": entry.file, "place": entry.place}
        for entry in expansion.ledger.passed_over
        if entry.kind in ("sentence", "fact")
    ]
    write_atomic(ledger_file(path), json.dumps(expansion.ledger.as_json(), ensure_ascii=False, indent=1) + "\n")
    write_atomic(dropped_file(path), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    if expansion.scenes:
        write_scenes(scenes_file(path), expansion.scenes)
    write_pairs(path, expansion.pairs)
