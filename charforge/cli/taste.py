"""``--best-of`` and ``--references`` of the commands that draw."""

from __future__ import annotations

from pathlib import Path

from charforge.chat.imagine import with_taste
from charforge.chat.session import Session
from charforge.errors import InputError

ENCODER = "efficientnet-lite0"


def choosing(session: Session, bundle: Path, best_of: int, references: Path | None, device: str | None) -> Session:
    """The session, drawing the best of ``best_of``. Raises InputError for references that cannot be read."""
    if best_of == 1:
        if references is not None:
            raise InputError("--references is for --best-of: say of how many drawings the best is taken")
        return session
    import torch

    from charforge.bundle import read_bundle
    from charforge.device import chosen_device
    from charforge.evaluate.references import bundle_pictures, folder_pictures
    from charforge.judges.encoders import load_encoder

    known = folder_pictures(references) if references is not None else bundle_pictures(read_bundle(bundle))
    return with_taste(
        session, load_encoder(ENCODER, torch.device(chosen_device(device))), list(known.values()), best_of
    )
