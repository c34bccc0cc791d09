"""Presets and their overrides: later wins, unknown keys are errors."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from charforge.errors import InputError
from charforge.resources import preset_path, resource_folder
from charforge.settings import Settings, read_settings, settings_toml


@pytest.mark.parametrize("preset", sorted(resource_folder("presets").glob("*.toml")), ids=lambda path: path.stem)
def test_every_preset_is_valid(preset: Path):
    assert read_settings(preset, None, []).base


def test_folder_then_assignments_then_options_win(tmp_path: Path):
    (tmp_path / "charforge.toml").write_text("seed = 3\n[sft]\nsteps = 11\nlooks = 2\n")
    settings = read_settings(preset_path("mini"), tmp_path / "charforge.toml", ["sft.steps=12"], seed=5)
    assert (settings.seed, settings.sft.steps, settings.sft.looks) == (5, 12, 2)


def test_the_resolved_copy_reads_back_the_same(tmp_path: Path):
    settings = read_settings(preset_path("mini"), None, ["adapter.rank=8"], quantize="int8")
    assert Settings.model_validate(tomllib.loads(settings_toml(settings))) == settings


@given(base=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@example(base='/data/größe 🐕/the "best"\\base\n')
def test_any_path_survives_the_resolved_copy(base: str):
    settings = Settings(base=base)
    assert Settings.model_validate(tomllib.loads(settings_toml(settings))) == settings


def test_a_misspelt_key_in_the_folder_is_an_error(tmp_path: Path):
    (tmp_path / "charforge.toml").write_text("[sft]\nlerning_rate = 1\n")
    with pytest.raises(InputError, match=r"sft\.lerning_rate"):
        read_settings(preset_path("mini"), tmp_path / "charforge.toml", [])


def test_broken_toml_names_its_file(tmp_path: Path):
    (tmp_path / "charforge.toml").write_text("[sft\n")
    with pytest.raises(InputError, match=r"charforge\.toml is not valid TOML"):
        read_settings(preset_path("mini"), tmp_path / "charforge.toml", [])
