"""The table of kinds: what a step takes, in which order, and that everything else agrees with the table."""

from __future__ import annotations

from itertools import groupby

import pytest
import torch
from tiny import tiny_data, tiny_model, tiny_settings

from charforge import kinds
from charforge.errors import InputError
from charforge.families.bagel.layers import grid_position_ids
from charforge.families.bagel.splits import TextSplit
from charforge.kinds import KINDS, TALK, Kind
from charforge.replay.picture_answers import QUESTIONS
from charforge.resources import preset_path
from charforge.sample import Sample, Target, target_of
from charforge.settings import Settings, SftSettings, deciding, read_settings, settings_toml
from charforge.train.dataset import OWN
from charforge.train.samples import Dataset, alone, step_batch, study_steps

# how the preset of mini shared out a step when these lists were made
MINI = SftSettings(
    steps=70, study_share=0.43, study_knowledge=12, study_looks=3, study_requests=4, dialogues=4, requests=2,
    knowledge=4, looks=1, pictures=4, replay_pictures=4, replay_texts=1, replay_looks=1, draws=2, caption_dropout=0.1,
)  # fmt: skip
SIZES = {
    "dialogues": 7, "requests": 5, "knowledge": 11, "looks": 6, "pictures": 9, "replay_texts": 3, "replay_pictures": 8,
    "held_out_texts": 1, "held_out_pictures": 1,
}  # fmt: skip
STEPS = {
    0: (
        "knowledge 5 6 2 1 8 10 4 7 3 0 9 1; looks 3 1 4; requests 4 2 1 0; replay_texts 0; "
        "replay_looks 0.0 0.1 0.2 0.3",
        "pictures 6 6 0 0 1 1 2 2; replay_pictures 7 7 1 1 2 2 3 3",
        (0.65561, -0.99054),
    ),
    1: (
        "knowledge 2 10 4 3 8 6 7 0 9 5 5 0; looks 0 2 5; requests 3 0 2 4; replay_texts 2; "
        "replay_looks 2.0 2.1 2.2 2.3",
        "pictures 7 7 8 8 4 4 3 3; replay_pictures 6 6 0 0 4 4 5 5",
        (0.85602, -0.6783),
    ),
    29: (
        "knowledge 9 3 2 6 6 7 10 9 3 2 1 5; looks 4 1 5; requests 3 2 0 4; replay_texts 2; "
        "replay_looks 2.0 2.1 2.2 2.3",
        "pictures 3 3 6 6 7 7 5 5; replay_pictures 4 4 0 0 3 3 1 1",
        (0.43966, -0.21495),
    ),
    30: (
        "dialogues 3 6 2 1; requests 4 2; knowledge 10 9 4 5; looks 0; replay_texts 1; replay_looks 1.0 1.1 1.2",
        "pictures 1 1 4 4 8 8 0- 0-; replay_pictures 7 7 0 0 4 4 2 2",
        (0.83744, -1.22787),
    ),
    31: (
        "dialogues 5 0 4 2; requests 1 0; knowledge 0 7 8 10; looks 3; replay_texts 0; replay_looks 0.0 0.1 0.2 0.3",
        "pictures 2 2 3 3 6 6 0 0; replay_pictures 1 1 5 5 6 6 3 3",
        (0.6182, 0.26276),
    ),
    69: (
        "dialogues 3 4 0 5; requests 0 2; knowledge 5 3 1 10; looks 1; replay_texts 0; replay_looks 0.0 0.1 0.2 0.3",
        "pictures 3 3 8 8 2- 2- 7 7; replay_pictures 7 7 4 4 6 6 1 1",
        (0.86391, 0.78085),
    ),
}
"""Texts and pictures of six steps with seed 3, "-" without its caption, the first time and the last value of the noise:
as the loop took them before there was a table."""


def text() -> Sample:
    return (TextSplit((5, 6)), TextSplit((7,), loss=True))


def picture() -> Sample:
    return (TextSplit((5,)), Target(torch.zeros(4, 16), grid_position_ids(2, 2, 4)))


def in_words(numbers: list[tuple[str, str]]) -> str:
    groups = groupby(numbers, key=lambda pair: pair[0])
    return "; ".join(f"{kind} {' '.join(number for _, number in group)}" for kind, group in groups)


def test_a_step_takes_the_samples_that_it_took_before_there_was_a_table() -> None:
    made = {name: [picture() if "pictures" in name else text() for _ in range(n)] for name, n in SIZES.items()}
    looks = [tuple(text() for _ in range(count)) for count in (4, 3, 4)]
    numbers = {id(target_of(s) or s): (kind, str(n)) for kind, rows in made.items() for n, s in enumerate(rows)}
    numbers |= {id(s): ("replay_looks", f"{n}.{m}") for n, rows in enumerate(looks) for m, s in enumerate(rows)}
    data = Dataset({**{name: alone(rows) for name, rows in made.items()}, "replay_looks": looks})
    model = tiny_model()
    for step, (texts, pictures, (time, last)) in STEPS.items():
        found, drawn, noise = step_batch(model, data, MINI, 3, step)
        assert in_words([numbers[id(sample)] for sample in found]) == texts
        told = [(*numbers[id(target_of(sample))], len(sample)) for sample in drawn]
        assert in_words([(kind, n if parts == 2 else f"{n}-") for kind, n, parts in told]) == pictures
        assert noise is not None
        assert (noise.times[0].item(), noise.values[-1, -1].item()) == (
            pytest.approx(time, abs=1e-4), pytest.approx(last, abs=1e-4),
        )  # fmt: skip


def test_settings_and_the_base_s_own_agree_with_the_table() -> None:
    fields = SftSettings.model_fields
    given = {name: count for name, count in kinds.counts().items() if name in fields}
    assert {name: fields[name].default for name in given} == given and len(given) >= 10
    assert {**given, **(SftSettings().model_extra or {})} == kinds.counts()
    assert set(OWN) == {kind.name for kind in KINDS if not kind.tasks}
    assert next(kind for kind in KINDS if kind.name == "replay_looks").together == 2 * QUESTIONS
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_a_kind_that_is_not_in_the_table_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"songs.*dialogues"):
        Dataset({"songs": []})


def test_a_wrong_setting_is_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=r"setting sft\.stepz"):
        read_settings(preset_path("mini"), None, ["sft.stepz=3"])
    with pytest.raises(InputError, match=r"setting sft\.steps"):
        read_settings(preset_path("mini"), None, ["sft.steps=0"])


@pytest.fixture
def songs(monkeypatch: pytest.MonkeyPatch) -> Kind:
    kind = Kind("songs", "text", "facts", TALK, count=2, study=3)
    monkeypatch.setattr(kinds, "KINDS", (*KINDS, kind))
    monkeypatch.setattr("charforge.train.samples.KINDS", (*KINDS, kind))
    return kind


def test_a_new_row_is_a_new_kind_with_settings_of_its_own(songs: Kind) -> None:
    assert SftSettings().count(songs) == 2 and SftSettings().count(songs, studying=True) == 3
    settings = read_settings(preset_path("mini"), None, ["sft.songs=5"])
    assert settings.sft.count(songs) == 5 and settings.sft.model_dump()["study_songs"] == 3
    assert deciding(settings)["sft.songs"] == 5 and "songs = 5" in settings_toml(settings)
    with pytest.raises(InputError, match=r"setting sft\.songs"):
        read_settings(preset_path("mini"), None, ["sft.songs=-1"])
    data = Dataset({"songs": alone([text()]), "dialogues": tiny_data().of("dialogues")})
    sft = tiny_settings(steps=4, study_share=0.5)
    assert study_steps(data, sft) == 2
    sung = [len([s for s in step_batch(tiny_model(), data, sft, 0, step)[0] if len(s) == 2]) for step in range(4)]
    assert sung == [3, 3, 2, 2]
    assert Settings.model_validate(settings.model_dump()) == settings
