"""Does it draw one prompt in several ways?"""

from __future__ import annotations

from torch import Tensor


def variety(features: Tensor, each: int) -> Tensor:
    """The mean distance (1 - cosine) between the pictures of one prompt; (prompts,).

    ``features`` (prompts * each, width) of length 1, the pictures of a prompt in a row.

    - Range: 0 (all the same) to 2; pictures of one character and scene are usually at .1 to .4.
    - Source: mean pairwise distance of DreamBooth's DIV, there with LPIPS, here with the run's encoder.
    - Caveat: bad pictures differ too. Babble is the most varied of all: read it beside scene and likeness.

    Raises ValueError for fewer than two pictures of a prompt.
    """
    if each < 2:
        raise ValueError("variety needs two pictures of a prompt")
    grouped = features.view(-1, each, features.shape[-1])
    return (1 - grouped @ grouped.transpose(1, 2)).sum(dim=(1, 2)) / (each * (each - 1))
