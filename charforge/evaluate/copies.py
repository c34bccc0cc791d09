"""Has it learned the character, or its pictures?"""

from __future__ import annotations

import torch
from torch import Tensor

from charforge.judges.likeness import References


def copied(nearest: Tensor, references: References) -> Tensor:
    """Which pictures are copies: more like a training picture than any two of these are like each other; (pictures,).

    ``nearest`` (pictures,): cosine with the training picture that each is most like.

    - Range of its mean, the copy rate: 0 to 1, lower is better. Real new pictures of the character are hardly ever
      copies by this mark.
    - Source: the copying penalty of UniCharacter has the mark .9 for every character and encoder; here it is measured
      on the character's own pictures, so that it needs three of them.
    - Caveat: two training pictures that are nearly the same push the mark so high that nothing is a copy.
      ``charforge check`` warns of such pictures. A copy with another background may pass.
    """
    return nearest > references.copy


def copy_margin(nearest: Tensor, references: References) -> Tensor:
    """How far each picture is over (above 0) or under the mark from which it counts as a copy; (pictures,)."""
    return nearest - torch.tensor(references.copy)
