"""Has it learned the character, or its pictures? Copies of training pictures, in training and in evaluation alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from charforge.judges.encoders import encoded, pixel_encoder
from charforge.judges.likeness import References, calibrate


@dataclass(frozen=True)
class CopyMarks:
    """From where on a picture is a copy: by the encoder, more alike than any two training pictures are; by 16 by 16
    pixels (``pixels``: the training pictures' own), halfway from there to the same picture."""

    by_encoder: float
    by_pixels: float
    pixels: Tensor


def copy_marks(references: References, own: Sequence[Tensor]) -> CopyMarks:
    """The marks of a character from its training pictures, each (3, H, W); ``references`` are theirs by the encoder."""
    known = calibrate(encoded(pixel_encoder().encode, own))
    return CopyMarks(references.copy, (1 + known.copy) / 2, known.features)


def copied(pictures: Tensor, nearest: Tensor, marks: CopyMarks) -> Tensor:
    """Which pictures (n, 3, H, W) are copies of training pictures, by the encoder or by the pixels; (n,).

    ``nearest`` (n,): by the encoder, the cosine with the training picture that each is most like.

    - Range of its mean, the copy rate: 0 to 1, lower is better. Of real new pictures of drawn characters .16 pass one
      of the marks, because some are as good as the same; of copies all, also softened, dimmed or moved by a few pixels.
    - Source: the copying penalty of UniCharacter has the mark .9 for every character and encoder; here it is measured
      on the character's own pictures, so that it needs three of them. The encoder alone finds one in four copies that
      were softened: what it sees is sharpness too. 16 by 16 pixels see nothing else but where which colour is.
    - Caveat: two training pictures that are nearly the same push the marks so high that nothing is a copy.
      ``charforge check`` warns of such pictures. A figure cut out and put before another background may pass.
    """
    by_pixels = (pixel_encoder().encode(pictures).cpu() @ marks.pixels.T).max(1).values
    return (nearest > marks.by_encoder) | (by_pixels > marks.by_pixels)
