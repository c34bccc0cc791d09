"""Model families: each a folder of its own behind one door (protocol.py), and the table that lists them."""

from __future__ import annotations

from pathlib import Path

from charforge.errors import InputError
from charforge.families.bagel.family import BAGEL
from charforge.families.protocol import Family

FAMILIES: tuple[Family, ...] = (BAGEL,)
"""In the order in which a folder is offered to them."""


def family_of(folder: Path) -> Family:
    """The family whose configuration files lie in ``folder``. Raises InputError when it is none's."""
    for family in FAMILIES:
        if family.recognises(folder):
            return family
    raise InputError(
        f"{folder} holds no base that charforge knows (llm_config.json is missing): name the folder of a checkpoint in "
        "the official layout"
    )
