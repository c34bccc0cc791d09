"""Presets and their overrides: later wins, unknown keys are errors, every setting says what it does."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from command import charforge
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from charforge import resources
from charforge.errors import InputError
from charforge.resources import preset_names, preset_path
from charforge.settings import Settings, deciding, read_settings, settings_toml
from charforge.settings.described import find_settings, preset_values, sections, settings_rows
from charforge.settings.presets import dotted, merged, read_layers

ROOT = Path(__file__).parent.parent
CARDS = ("bagel-16gb", "bagel-24gb", "bagel-48gb", "bagel-80gb")


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid(name: str):
    assert read_settings(preset_path(name), None, []).base == ("mini" if name == "mini" else "bagel")


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_holds_only_what_differs_from_what_it_extends(name: str):
    layers = read_layers(preset_path(name))
    before = Settings.model_validate(merged(layers[:-1])).model_dump()
    own = dotted(layers[-1].data)
    assert own and not {key: value for key, value in own.items() if dotted(before)[key] == value}


def test_the_presets_of_cards_extend_the_one_of_their_base_and_the_paper_stands_alone():
    assert [[layer.file.stem for layer in read_layers(preset_path(name))] for name in CARDS] == [
        ["bagel", name] for name in CARDS
    ]
    assert len(read_layers(preset_path("paper"))) == len(read_layers(preset_path("mini"))) == 1


def test_a_file_extends_a_preset_by_name_or_a_file_beside_it(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "quick.toml").write_text('extends = "deep/shared.toml"\n[sft]\nsteps = 5\n')
    (tmp_path / "deep/shared.toml").write_text('extends = "bagel-24gb"\nseed = 9\n[sft]\nlooks = 2\nsteps = 6\n')
    settings = read_settings(tmp_path / "quick.toml", None, [])
    assert (settings.seed, settings.sft.steps, settings.sft.looks) == (9, 5, 2)
    assert (settings.quantize, settings.grpo.iterations) == ("int8", 40)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('extends = "a.toml"', r"circle \(a.toml -> a.toml\)"),
        ('extends = "b.toml"', r"circle \(a.toml -> b.toml -> a.toml\)"),
        ('extends = "nobody"', "there is no preset 'nobody'; there are: bagel"),
        ('extends = "nowhere.toml"', r"a.toml extends 'nowhere.toml': preset file .*nowhere.toml does not exist"),
        ("extends = 3", "extends must be the name of a preset"),
        ('extends = "broken.toml"', r"broken.toml is not valid TOML"),
    ],
)
def test_what_cannot_be_extended_is_named(tmp_path: Path, text: str, words: str):
    (tmp_path / "a.toml").write_text(text)
    (tmp_path / "b.toml").write_text('extends = "a.toml"')
    (tmp_path / "broken.toml").write_text("[sft\n")
    with pytest.raises(InputError, match=words):
        read_settings(tmp_path / "a.toml", None, [])


def test_a_character_folder_extends_nothing(tmp_path: Path):
    (tmp_path / "charforge.toml").write_text('extends = "paper"\n')
    with pytest.raises(InputError, match=r"charforge\.toml: only a preset extends another"):
        read_settings(preset_path("mini"), tmp_path / "charforge.toml", [])


def test_presets_are_found_and_extend_each_other_where_an_installation_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    built = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    inside = tmp_path / built["force-include"]["presets"]
    shutil.copytree(ROOT / "presets", inside)
    here = read_settings(preset_path("bagel-16gb"), None, [])
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "charforge")
    assert {layer.file.parent for layer in read_layers(preset_path("bagel-16gb"))} == {inside}
    assert read_settings(preset_path("bagel-16gb"), None, []) == here


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
    with pytest.raises(InputError, match=r"there is no setting sft\.lerning_rate\. .charforge settings. lists"):
        read_settings(preset_path("mini"), tmp_path / "charforge.toml", [])


def test_broken_toml_names_its_file(tmp_path: Path):
    (tmp_path / "charforge.toml").write_text("[sft\n")
    with pytest.raises(InputError, match=r"charforge\.toml is not valid TOML"):
        read_settings(preset_path("mini"), tmp_path / "charforge.toml", [])


# descriptions


def fields_of(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str]]:
    """(dotted name, description) of every field, sections too."""
    found = []
    for name, field in model.model_fields.items():
        found.append((prefix + name, field.description or ""))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += fields_of(field.annotation, f"{prefix}{name}.")
    return found


def test_every_setting_and_section_has_a_description_of_its_own():
    fields = fields_of(Settings)
    poor = [name for name, description in fields if len(description.split()) < 4 or not description.endswith(".")]
    assert not poor
    assert len({description for _, description in fields}) == len(fields)


def test_the_rows_are_all_settings_and_those_that_decide_are_those_of_a_run():
    rows = list(settings_rows())
    assert [row.key for row in rows] == list(dotted(Settings().model_dump()))
    assert {row.key: row.default for row in rows if row.decides} == deciding(Settings())
    assert {row.section for row in rows} == {"", *sections()}


def test_settings_are_found_by_section_and_by_name_and_near_ones_are_suggested():
    assert [row.key for row in find_settings("sft.steps")] == ["sft.steps"]
    assert {row.section for row in find_settings("chat")} == {"chat"}
    (rank,) = find_settings("adapter.rank")
    assert (rank.allowed, rank.default) == ("whole number, at least 1, at most 512", 16)
    for wrong, hint in (("sft.stepz", "sft.steps"), ("clip_range", "grpo.clip_range"), ("?", "charforge settings")):
        with pytest.raises(InputError, match=hint):
            find_settings(wrong)


def test_a_value_is_told_with_the_file_that_it_stands_in():
    values = preset_values(preset_path("bagel-24gb"))
    where = {key: values[key].file.stem if values[key].file else None for key in ("quantize", "base", "sft.looks")}
    assert where == {"quantize": "bagel-24gb", "base": "bagel", "sft.looks": None}
    assert {key: value.value for key, value in values.items()} == dotted(
        read_settings(preset_path("bagel-24gb"), None, []).model_dump()
    )


def test_the_command_prints_one_setting_a_section_or_all_and_json():
    one = charforge("settings", "sft.steps", "--preset", "mini")
    assert one.returncode == 0 and not one.stderr
    assert "sft.steps = 70  (in mini.toml; default 200)" in one.stdout and "sft.warmup" not in one.stdout
    everything = charforge("settings").stdout
    assert all(f"\n{row.key} = " in f"\n{everything}" for row in settings_rows())
    told = json.loads(charforge("settings", "grpo", "--preset", "bagel-80gb", "--json").stdout)
    found = {row["key"]: row for row in told["settings"]}
    assert (found["grpo.micro_batch"]["value"], found["grpo.micro_batch"]["default"]) == (4, 24)
    assert found["grpo.micro_batch"]["file"].endswith("bagel-80gb.toml") and found["grpo.noise"]["file"] is None
    wrong = charforge("settings", "sft.stepz")
    assert wrong.returncode == 1 and "did you mean sft.steps" in wrong.stderr


# settings that do not go together


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["grpo.prompts=1"], r"setting grpo: updates \(4\) must not be more than prompts \(1\): every update learns"),
        (["grpo.updates=5"], r"updates \(5\) must not be more than prompts \(4\)"),
        (["grpo.window=6"], r"setting grpo: window_last_start \+ window must be less than steps \(10\)"),
    ],
)
def test_settings_that_do_not_go_together_are_one_sentence(assignments: list[str], words: str):
    with pytest.raises(InputError, match=words):
        read_settings(preset_path("mini"), None, assignments)
    assert read_settings(preset_path("mini"), None, ["grpo.prompts=1", "grpo.updates=1"]).grpo.updates == 1
