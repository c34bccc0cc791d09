"""Is it the character? Likeness to its pictures, and what that number is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from charforge.judges.encoders import PIXELS, encoded
from charforge.judges.likeness import FEWEST_REFERENCES

Values = TypeVar("Values", float, np.ndarray, Tensor)


def likeness(features: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """The cosine of each picture with the reference that it is most like, and which one that is: two of (pictures,).

    Features are (pictures, width) and (references, width) of length 1.

    - Range: -1 to 1; real pictures of one character are usually at .75 to .9 of each other, depending on the encoder.
    - Source: CLIP-I and DINO of DreamBooth (Ruiz et al. 2023), there as a mean over references. The best reference is
      used here: a character from the side is like its pictures from the side, and no worse for that.
    - Caveat: a copy scores best of all. Read it beside the copy rate. Encoders have scales of their own: never compare
      two of them.
    """
    return (features @ references.T).max(1)  # type: ignore[return-value]


def nearest_other(features: Tensor) -> Tensor:
    """The likeness of each of these pictures to the others of them, itself left out; (pictures,). Needs two."""
    if len(features) < 2:
        raise ValueError("one picture has no other to be like")
    between = features @ features.T
    return between.fill_diagonal_(-2.0).max(1).values


def only_colours(pictures: Tensor, side: int = PIXELS) -> Tensor:
    """Pictures (n, 3, H, W) of which ``side`` by ``side`` pixels are left, enlarged to what they were."""
    small = F.adaptive_avg_pool2d(pictures, side)
    return F.interpolate(small, pictures.shape[-2:], mode="bicubic", align_corners=False).clamp(-1, 1)


@dataclass(frozen=True)
class Scale:
    """Two marks on an encoder's scale for one character.

    ``floor``: what its own pictures score when only 16 by 16 pixels of them are left. ``ceiling``: what its real
    pictures score against each other. Both are medians.
    """

    floor: float
    ceiling: float

    def normalised(self, value: Values) -> Values:
        """A likeness where 0 is the floor and 1 the ceiling.

        - Range: about 0 to 1. Below 0 there is less than the colours in their places; above 1 it is more like one of
          the pictures than real pictures are like each other: look at the copy rate.
        - Source: the normalisation of charforge; floor and ceiling are measured anew for each character and encoder.
        - Caveat: 0 is no stranger. A sharp drawing of somebody else of the same kind is often at .3 to .5, because it
          is at least a sharp drawing of that kind (docs/evaluation.md has the figures).
        """
        return (value - self.floor) / (self.ceiling - self.floor)


def likeness_scale(encode: Callable[[Tensor], Tensor], pictures: Sequence[Tensor]) -> Scale | None:
    """The scale of a character from its real pictures, each (3, H, W) in [-1, 1].

    None where there are fewer than three, or where the encoder finds the ceiling no higher than the floor: then it says
    nothing about this character.
    """
    if len(pictures) < FEWEST_REFERENCES:
        return None
    known = encoded(encode, pictures)
    left = encoded(encode, [only_colours(picture[None])[0] for picture in pictures]) @ known.T
    floor = left.fill_diagonal_(-2.0).max(1).values.median().item()
    ceiling = nearest_other(known).median().item()
    return Scale(floor, ceiling) if ceiling > floor else None


def separation(own: Tensor, others: Tensor) -> float:
    """How often a picture of the character is more like it than one of somebody else: the area under the ROC curve.

    Range: 0 to 1; .5 is chance, ties count half. ``own`` (n,) and ``others`` (m,) are likenesses.
    """
    above = (own[:, None] > others[None]).float() + 0.5 * (own[:, None] == others[None]).float()
    return float(torch.mean(above))
