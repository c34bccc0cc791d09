"""The preset ``auto``: the best that this machine can train, and one sentence that says what it is and what would be
better.

The choice itself needs nothing but the standard library: `charforge doctor` makes it where other libraries are missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from charforge.errors import InputError
from charforge.machine import GIB, available_host_gib
from charforge.resources import preset_names as all_presets
from charforge.resources import preset_path

if TYPE_CHECKING:
    from charforge.settings import Settings

AUTO, CONFIG = "auto", "config.toml"
CARD_SHARE = 0.92
"""A card of "24 GB" has 22 to 24 GiB, depending on what it keeps for error correction."""
MINI_GIB = 5.5
"""The largest run of `mini` that was measured (docs/log.md, Bo) peaked at 5.3 GiB; the system wants some too."""
BAGEL_HOST_GIB = 6.0
"""Predicted: what is on its way to the card while it is loaded, and judges that stay on the host."""
FETCH = "charforge base pull bagel, 30 GB"


@dataclass(frozen=True)
class Card:
    """A CUDA card: memory in GiB, all of it and what is free now."""

    name: str
    memory_gib: float
    free_gib: float


@dataclass(frozen=True)
class Choice:
    """A preset, the base that it trains, and one sentence for a person (empty where the user chose)."""

    preset: str
    base: str
    sentence: str

    def as_json(self) -> dict[str, str]:
        return {"name": self.preset, "base": self.base, "why": self.sentence}


def card_gigabytes(preset: str) -> int | None:
    """The size of card that a preset is named after: 24 for bagel-24gb; None for one that needs no card."""
    size = re.search(r"(\d+)gb$", preset)
    return int(size[1]) if size else None


def fitting(presets: Iterable[str], memory_gib: float) -> list[str]:
    """The presets that are named after a card of so much memory or less, the largest last."""
    sizes = {preset: gigabytes for preset in presets if (gigabytes := card_gigabytes(preset))}
    return sorted((name for name in sizes if CARD_SHARE * sizes[name] <= memory_gib), key=lambda name: sizes[name])


def choose_preset(
    cards: Sequence[Card], host_gib: float, bases: Collection[str], presets: Collection[str], asked: str | None = None
) -> Choice:
    """The best preset for the first of ``cards`` and ``host_gib`` of free memory on the host.

    ``bases`` are those that are here, ``presets`` those that there are, ``asked`` the base that the user named.
    """
    sizes = [gigabytes for preset in presets if (gigabytes := card_gigabytes(preset))]
    if asked == "mini" or not sizes:
        return Choice("mini", asked or "mini", "")
    needs = min(sizes)
    card = cards[0] if cards else None
    fits = fitting(presets, card.free_gib) if card else []
    if card is not None and fits and host_gib >= BAGEL_HOST_GIB and (asked or "bagel" in bases):
        better = fitting(presets, card.memory_gib)[-1]
        more = "" if better == fits[-1] else f"; with other programs on it ended it would be {better}"
        free = f"{card.free_gib:.1f} GiB are free on {card.name}"
        base = asked or "bagel"
        return Choice(fits[-1], base, f"training on {base} with the preset {fits[-1]}: {free}{more}")
    if card is None:
        why = f"bagel needs a CUDA card of {needs} GB or more"
    elif not fitting(presets, card.memory_gib):
        why = f"bagel needs a card of {needs} GB or more, {card.name} has {card.memory_gib:.1f} GiB"
    elif not fits:
        need = CARD_SHARE * needs
        why = f"bagel needs {need:.1f} GiB on {card.name} and {card.free_gib:.1f} are free: end other programs on it"
    elif host_gib < BAGEL_HOST_GIB:
        why = (
            f"bagel needs {BAGEL_HOST_GIB:.0f} GiB of the host's memory and {host_gib:.1f} are free: end other programs"
        )
    else:
        why = f"bagel is not here: {FETCH}"
    if asked is not None:
        return Choice("mini", asked, f"{why}; training on {asked} with the steps of the preset mini")
    room = (
        f" ({host_gib:.1f} GiB are free, it takes up to {MINI_GIB}: end other programs)" if host_gib < MINI_GIB else ""
    )
    return Choice("mini", "mini", f"{why}; training on mini{room}")


def cards_here(device: str | None = None) -> list[Card]:
    """The card that ``device`` (None: the best one) means; none where that is no CUDA card. Loads torch."""
    import torch

    from charforge.device import chosen_device

    chosen = chosen_device(device)
    if not chosen.startswith("cuda"):
        return []
    free, total = torch.cuda.mem_get_info(chosen)
    return [Card(torch.cuda.get_device_name(chosen), total / GIB, free / GIB)]


def bases_here() -> set[str]:
    """The names of the bases that could be loaded now."""
    from charforge.bases.listing import list_bases

    return {base.name for base in list_bases() if base.status == "ready"}


def preset_names() -> tuple[str, ...]:
    """The presets of this installation, without the one that is for comparison with the paper."""
    return tuple(name for name in all_presets() if name != "paper")


def unfinished(runs: Iterable[Path]) -> list[Path]:
    """Those of ``runs`` that can be gone on with; after a finished first stage the second may follow."""
    return [run for run in runs if not _finished(run)]


def begun_preset(runs: Iterable[Path], candidates: Mapping[str, Settings]) -> tuple[Path, str] | None:
    """The latest of ``runs`` that has the settings of one of ``candidates``, and which one.

    What does not decide the result (memory and the like) does not count; where that alone tells two candidates apart,
    the first of them is taken.
    """
    from charforge.settings import deciding

    begun = [run for run in runs if (run / CONFIG).is_file()]
    for run in sorted(begun, key=lambda run: (run / CONFIG).stat().st_mtime, reverse=True):
        known = _settings_of(run)
        for preset, settings in candidates.items():
            if known is not None and deciding(settings) == deciding(known):
                return run, preset
    return None


def resolve_preset(
    preset: str, folder: Path, assignments: list[str], device: str | None, runs: Iterable[Path] = (), **explicit: object
) -> Choice:
    """``preset`` itself, or what ``auto`` stands for here and now.

    One of ``runs`` keeps the preset with which it was begun, however much memory is free today.
    ``explicit`` are the options that go before the preset. Raises InputError as :func:`read_settings` does.
    """
    from charforge.settings import given_settings, read_settings

    overrides = folder / "charforge.toml"

    def settings_of(name: str) -> Settings:
        return read_settings(preset_path(name), overrides, assignments, **explicit)

    if preset != AUTO:
        return Choice(preset, settings_of(preset).base, "")
    asked = given_settings(overrides, assignments, **explicit).get("base")
    choice = choose_preset(cards_here(device), available_host_gib(), bases_here(), preset_names(), asked)
    # the chosen one first: of two that differ in memory alone it is the better
    candidates = {name: settings_of(name) for name in (choice.preset, *preset_names())}
    begun = begun_preset(runs, candidates)
    if begun is None or begun[1] == choice.preset:
        return choice
    run, name = begun
    return Choice(name, candidates[name].base, f"going on with {run}, which was begun with the preset {name}")


def _finished(run: Path) -> bool:
    try:
        return bool(json.loads((run / "result.json").read_text("utf-8"))["stage"] == "grpo")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _settings_of(run: Path) -> Settings | None:
    from charforge.settings import settings_of_run

    try:
        return settings_of_run(run / CONFIG)
    except InputError:
        # of another version, or damaged: nobody goes on with it
        return None
