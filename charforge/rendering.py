"""The one place that turns a pair's parts into what a model reads."""

from __future__ import annotations

from collections.abc import Mapping

from charforge.expand.pairs import Pair, TextPart
from charforge.families.protocol import UnifiedModel
from charforge.sample import Part, Picture, Sample


def render(pair: Pair, model: UnifiedModel, pictures: Mapping[str, Picture]) -> Sample:
    """A pair as ``model`` reads it. Raises KeyError when it names a picture that is not there."""
    sample: list[Part] = []
    for part in pair.parts:
        if isinstance(part, TextPart):
            sample.append(model.text(part.text, part.role, part.loss))
        else:
            picture = pictures[part.image]
            sample.append(picture.target if part.use == "draw" else picture.look)
    return tuple(sample)
