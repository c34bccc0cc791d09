"""Whether a language model sees the pictures that it is sent. One that cannot will describe them all the same."""

from __future__ import annotations

from PIL import Image, ImageDraw

from charforge.expand.asking import Complete, Request

SIDE = 224
QUESTION = "Which colour and which shape do you see in this picture? Answer with two words."
ANSWERS = {
    "probe:triangle": ({"purple", "violet"}, {"triangle"}),
    "probe:square": ({"green"}, {"square", "rectangle"}),
}
"""By the probe's name: words of which the answer holds one of each kind. Nobody guesses both pictures."""


def probe_pictures() -> dict[str, Image.Image]:
    """Two pictures whose content is known, by the names under which requests show them."""
    triangle, square = (Image.new("RGB", (SIDE, SIDE), "white") for _ in range(2))
    ImageDraw.Draw(triangle).polygon([(112, 30), (30, 190), (194, 190)], fill=(128, 0, 160))
    ImageDraw.Draw(square).rectangle((45, 45, 179, 179), fill=(0, 150, 40))
    return {"probe:triangle": triangle, "probe:square": square}


def can_see(complete: Complete) -> bool:
    """Whether both known pictures are told right."""
    requests = [Request("probe", (("user", QUESTION),), name, max_tokens=24) for name in ANSWERS]
    return all(
        _right(text, ANSWERS[request.image or ""]) for request, text in zip(requests, complete(requests), strict=True)
    )


def _right(text: str, wanted: tuple[set[str], set[str]]) -> bool:
    words = {word.strip(".,;:!*\"'").lower() for word in text.split()}
    return all(words & kind for kind in wanted)
