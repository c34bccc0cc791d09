"""The recipe of the embedded base from nothing to packed weights, every stage as small as it goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from charforge.bases.base import MINI
from charforge.errors import InputError
from charforge.files import write_atomic
from charforge.recipe import dataset, replay_answers
from charforge.recipe.__main__ import app
from charforge.recipe.further import cut
from charforge.recipe.generation import GenerationRecipe, prepare_generation
from charforge.recipe.pack import pack_base
from charforge.replay import picture_answers


def run(*arguments: object) -> str:
    """What a stage writes on stdout."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def changed(**settings: object) -> list[str]:
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def test_a_stage_without_the_one_before_it_is_named(tmp_path: Path):
    for prepare in (
        lambda: prepare_generation(tmp_path, GenerationRecipe(), "cpu", lambda done, count: None),
        lambda: pack_base(tmp_path, tmp_path / "packed"),
    ):
        with pytest.raises(InputError, match=r"autoencoder\.json is missing: run python -m charforge\.recipe autoenc"):
            prepare()
    with pytest.raises(InputError, match=r"images\.npy is missing: run python -m charforge\.recipe render first"):
        run("vision", "--out", tmp_path)
    statistics = {"latent_mean": [0.0] * 16, "latent_std": [1.0] * 16}
    write_atomic(tmp_path / "autoencoder" / "autoencoder.json", json.dumps(statistics))
    with pytest.raises(InputError, match=r"run python -m charforge\.recipe generation first"):
        pack_base(tmp_path, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


@pytest.mark.slow
def test_every_stage_from_nothing_to_packed_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for library in ("dicebear", "dicebear_styles", "cairosvg", "skimage"):
        pytest.importorskip(library, reason=f"{library} belongs to the extra `recipe`")
    monkeypatch.setattr(dataset, "HELD_OUT", 2)
    monkeypatch.setattr(picture_answers, "PICTURES", 2)
    monkeypatch.setattr(replay_answers, "QUESTIONS", replay_answers.QUESTIONS[:2])
    out, packed, one = ("--out", tmp_path), tmp_path / "packed", ("--threads", 1)
    # time is what ends a run: after the first step it is over
    moment = ("--minutes", 0.0001)
    run("render", *out, "--count", 64, "--processes", 1)
    measured = json.loads(run("autoencoder", *out, "--steps", 1, *one))
    assert 0 < measured["psnr_drawings"] < 30
    few = changed(words_share=0, words_beside=2, answers_batch=1, own_texts=8, drift_texts=1)
    assert json.loads(run("vision", *out, *moment, *few, *one)).keys() >= {"vqa_yes_no"}
    run("contrasts", *out, "--count", 2, *one)
    run("generation", *out, *moment, *changed(contrasts=1, captions=2, draws=1), *one)
    assert json.loads(run("probe", *out, "--epochs", 1, *one)).keys() >= {"kind", "color"}
    provenance = json.loads(run("pack", *out, "--to", packed))
    assert provenance["generation"]["step"] == 1 and provenance["vision"]["step"] == 1
    for file in MINI.glob("*.safetensors"):
        shipped, made = load_file(file), load_file(packed / file.name)
        assert made.keys() == shipped.keys(), file.name
        assert file.name == "replay.safetensors" or all(made[n].shape == shipped[n].shape for n in made), file.name
    counts = json.loads(run("answers", "--to", packed, *one))
    assert all((packed / name).read_text("utf-8").count("\n") == count for name, count in counts.items())
    run("sheet", tmp_path / "sheet.png", "--count", 1, *one)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (8 * 128, 128)


@pytest.mark.slow
def test_going_on_from_the_shipped_weights_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for library in ("dicebear", "dicebear_styles", "cairosvg", "skimage"):
        pytest.importorskip(library, reason=f"{library} belongs to the extra `recipe`")
    monkeypatch.setattr(dataset, "HELD_OUT", 2)
    small = ("--count", 64, "--captions", 1, "--pairs", 2, "--processes", 1, "--threads", 1, "--minutes", 0.0001)
    few = changed(contrasts=1, captions=2, draws=1)
    told = json.loads(run("further", "--out", tmp_path, "--device", "cpu", *small, *few))
    assert told == json.loads((tmp_path / "further.json").read_text("utf-8"))
    assert told["samples"] == 2 and told["seconds"].keys() >= {"rendering", "encoding", "training"}
    assert told["before"].keys() == told["after"].keys() >= {"t2i_attribute_accuracy", "frechet_distance"}
    joined = b"".join((tmp_path / "pieces" / name).read_bytes() for name in told["pieces"])
    assert joined == (tmp_path / "packed" / "generation.safetensors").read_bytes()
    # the units of the shipped latents, not those of 64 pictures
    shipped, made = (json.loads((folder / "charforge_base.json").read_text()) for folder in (MINI, tmp_path / "packed"))
    assert made["autoencoder"]["latent_mean"] == shipped["autoencoder"]["latent_mean"]
    # one step from where they were
    before, after = (load_file(folder / "generation.safetensors") for folder in (MINI, tmp_path / "packed"))
    name = next(name for name in after if name.endswith("llm2vae.weight"))
    assert (before[name].float() - after[name].float()).abs().mean() < 1
    # and a second go has nothing left to do but what is measured at its end
    again = json.loads(run("further", "--out", tmp_path, "--device", "cpu", *small, *few))
    assert "rendering" not in again["seconds"] and again["samples"] == told["samples"]


def test_pieces_join_to_the_file_they_are_of(tmp_path: Path):
    file = tmp_path / "whole.bin"
    file.write_bytes(bytes(range(256)) * 10)
    names = cut(file, tmp_path / "pieces", 1000)
    assert names == ["whole.bin.00", "whole.bin.01", "whole.bin.02"]
    assert b"".join((tmp_path / "pieces" / name).read_bytes() for name in names) == file.read_bytes()
    assert max((tmp_path / "pieces" / name).stat().st_size for name in names) == 1000
