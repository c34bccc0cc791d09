"""The best of several drawings: like the character, and showing what was asked for."""

from __future__ import annotations

from dataclasses import replace

import torch
from PIL import Image
from served import client_of, served, tiny_seats
from tiny_base import pixel_encoder

from charforge.chat.imagine import SEED_STEP, imagine, with_taste
from charforge.chat.session import Session
from charforge.judges import choosing
from charforge.judges.choosing import best_of, taste_of
from charforge.pixels import to_image
from charforge.serve.local import LocalEngine
from charforge.serve.scheduler import Limits


def noisy(number: int, change: float) -> Image.Image:
    """Pictures that are the less alike the larger the change."""
    same = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(number + 1)) * 2 - 1
    return to_image(same * (1 - change) + other * change)


OWN = [noisy(number, 0.2) for number in range(5)]


def session() -> Session:
    return tiny_seats()[0].session


def test_who_is_most_like_the_character_is_taken_and_the_likeness_told() -> None:
    taste, model = taste_of(pixel_encoder(), OWN, 3), session().base.model
    drawn = [noisy(10, 0.9), noisy(11, 0.3), noisy(12, 0.7)]
    which, alike = best_of(taste, model, drawn, ())
    assert which == 1 and 0 < alike <= 1
    assert best_of(taste, model, drawn[::-1], ())[0] == 1
    assert best_of(taste, model, drawn[:1], ())[1] < alike


def test_of_two_that_are_as_alike_the_one_that_shows_more_is_taken(monkeypatch) -> None:
    taste, model = taste_of(pixel_encoder(), OWN, 2), session().base.model
    same = [OWN[0], OWN[0]]
    for shown, expected in (([0.2, 0.9], 1), ([0.9, 0.2], 0)):
        monkeypatch.setattr(choosing, "_shown", lambda *_, shown=shown: torch.tensor(shown))
        assert best_of(taste, model, same, ("in a forest",))[0] == expected


def test_the_base_is_asked_about_each_detail_without_the_adapter() -> None:
    own, model = session(), session().base.model
    pixels = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    one, other = (choosing._shown(model, pixels, details) for details in (("in a forest",), ("with open eyes",)))
    both = choosing._shown(model, pixels, ("in a forest", "with open eyes"))
    torch.testing.assert_close(both, (one + other) / 2)
    assert (
        own.taste is None and ((one >= 0) & (one <= 1)).all() and choosing._shown(model, pixels, ()).tolist() == [0, 0]
    )


def test_each_picture_is_one_of_those_of_its_own_seeds() -> None:
    plain = session()
    choosy = with_taste(plain, pixel_encoder(), OWN, 3)
    best = imagine(choosy, "in a forest", [7, 8])
    assert len(best.pictures) == len(best.likeness) == 2
    for seed, picture in zip((7, 8), best.pictures, strict=True):
        several = imagine(plain, "in a forest", [seed + SEED_STEP * n for n in range(3)]).pictures
        assert picture in several
    assert imagine(plain, "in a forest", [7]).likeness == ()


def test_without_pictures_of_its_own_drawings_say_how_it_looks() -> None:
    choosy = with_taste(session(), pixel_encoder(), OWN[:2], 2)
    assert choosy.taste is not None and choosy.taste.references.features.shape[0] == 6


def test_a_server_tells_the_likeness_of_what_it_drew() -> None:
    seats = tiny_seats()
    seats[0] = replace(seats[0], session=with_taste(seats[0].session, pixel_encoder(), OWN, 2))
    with served(LocalEngine(seats, Limits(), 4096)) as address:
        client = client_of(address)
        said = client.chat.completions.create(
            model="wren", messages=[{"role": "user", "content": "Hi"}], extra_body={"pictures": "always"}
        )
        assert 0 < said.choices[0].charforge["likeness"] <= 1  # type: ignore[attr-defined]
        drawn = client.images.generate(model="wren", prompt="in a forest", n=2)
        assert all(0 < image.charforge["likeness"] <= 1 for image in drawn.data)  # type: ignore[attr-defined]
