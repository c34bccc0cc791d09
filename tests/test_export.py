"""What a bundle becomes for others: files that other programs read, and the same character inside."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from bundle_parts import RANK, adapter_bytes, manifest, png
from exported import contents, good, loss_of, official, random_adapter
from layout import CONFIG
from safetensors.torch import load
from typer.testing import CliRunner

from charforge import grammar
from charforge.adapter.load import load_adapter
from charforge.adapter.names import PREFIX
from charforge.bases.base import load_base
from charforge.bundle import read_bundle
from charforge.bundle.card import OTHER_PROGRAMS
from charforge.bundle.manifest import ADAPTER, ADAPTER_CONFIG, AVATAR, CARD, FORMAT_VERSION, MANIFEST
from charforge.bundle.write import json_bytes
from charforge.character.cards import read_card
from charforge.cli.main import app
from charforge.errors import InputError
from charforge.export.folders import additions_of
from charforge.export.parts import PARTS, renewed, with_rank, without, write_again
from charforge.export.rank import reduce_rank

__all__ = ["good"]


def run(*arguments: object, code: int = 0) -> str:
    """stdout of a command that ends with ``code``."""
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def refused(*arguments: object) -> str:
    """The sentence with which a command refuses."""
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert isinstance(result.exception, InputError), result.output
    return str(result.exception)


# the bundle itself


def test_the_adapter_is_in_the_file_and_in_no_list_of_the_card(good: Path) -> None:
    data = json.loads(contents(good)[CARD])["data"]
    assert ADAPTER in contents(good) and [asset["type"] for asset in data["assets"]] == ["icon"]
    assert "safetensors" not in json.dumps(data["assets"])


def test_the_card_says_what_training_said(good: Path) -> None:
    data = read_bundle(good).card["data"]
    character = manifest().to_character()
    assert data["system_prompt"] == grammar.system_prompt(character)
    assert data["extensions"]["sd_character_prompt"] == {"positive": grammar.who(character), "negative": ""}
    assert data["post_history_instructions"] == "" and data["group_only_greetings"] == []
    assert data["creation_date"] == data["modification_date"] == 1795392000
    assert OTHER_PROGRAMS in data["creator_notes"]
    assert data["extensions"]["charforge/evaluation"] == {"perplexity": 3.5, "image_loss": None}
    assert data["extensions"]["charforge/sampling"]["text"]["temperature"] == 0.7


def test_no_path_of_a_base_is_told_to_others(good: Path, tmp_path: Path) -> None:
    base = manifest().base.model_copy(update={"name": "/home/ann/secret/my-base"})
    path = write_again(tmp_path / "a.charx", renewed(replace(read_bundle(good), manifest=manifest().model_copy(
        update={"base": base}))))  # fmt: skip
    told = contents(path)
    assert b"secret" not in told[CARD] and b"secret" not in told["README.md"] and b"my-base" in told["README.md"]


def as_version_1(path: Path) -> bytes:
    """The bundle as the first version of the format was: the adapter among the card's assets, fewer fields."""
    members = contents(path)
    card, told = json.loads(members[CARD]), json.loads(members[MANIFEST])
    adapter = {"type": "x_charforge", "uri": f"embeded://{ADAPTER}", "name": "adapter", "ext": "safetensors"}
    card["data"]["assets"].append(adapter)
    card["data"]["system_prompt"] = ""
    told["format_version"] = 1
    for field in ("repository", "revision"):
        del told["base"][field]
    del told["sampling"], told["adapter"]["trained_rank"]
    members |= {CARD: json_bytes(card), MANIFEST: json_bytes(told)}
    return members_zip(members)


def members_zip(members: dict[str, bytes]) -> bytes:
    from test_bundle import zip_of

    return zip_of(members)


def test_a_bundle_of_version_1_is_read_and_written_as_one_of_today(good: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.charx"
    old.write_bytes(as_version_1(good))
    bundle = read_bundle(old)
    assert bundle.manifest.format_version == FORMAT_VERSION and bundle.manifest.base.repository is None
    assert [asset["type"] for asset in bundle.card["data"]["assets"]] == ["icon"]
    run(old, "-o", tmp_path / "new.charx")
    new = read_bundle(tmp_path / "new.charx")
    assert json.loads(contents(tmp_path / "new.charx")[MANIFEST])["format_version"] == FORMAT_VERSION
    assert new.contents[ADAPTER] == bundle.contents[ADAPTER]
    assert new.card["data"]["system_prompt"] == grammar.system_prompt(manifest().to_character())
    assert [asset["type"] for asset in new.card["data"]["assets"]] == ["icon"]


@pytest.mark.parametrize("version", [0, -1, 3, 99, True, 1.0, "1", None, [1], 10**30])
def test_a_version_that_nobody_knows_is_named(good: Path, tmp_path: Path, version: object) -> None:
    from test_bundle import manifest_with, rebuilt

    (tmp_path / "x.charx").write_bytes(rebuilt(good, manifest_with(format_version=version)))
    with pytest.raises(InputError, match=r"its format is version .*, this charforge reads 1 to 2"):
        read_bundle(tmp_path / "x.charx")


# files


def test_an_export_of_an_export_is_the_same_to_the_byte(good: Path, tmp_path: Path) -> None:
    run(good, "-o", tmp_path / "one.charx")
    run(tmp_path / "one.charx", "-o", tmp_path / "two.charx")
    assert (tmp_path / "one.charx").read_bytes() == (tmp_path / "two.charx").read_bytes()
    # what a run writes is what an export writes
    assert (tmp_path / "one.charx").read_bytes() == good.read_bytes()


def test_a_run_is_exported_by_its_folder(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(good.parent)
    assert (tmp_path / "pip.charx").read_bytes() == good.read_bytes()
    (tmp_path / "empty").mkdir()
    assert "holds no bundle" in refused(tmp_path / "empty")


def test_a_png_card_holds_both_versions_and_is_read_back(good: Path, tmp_path: Path) -> None:
    run(good, "--card", "-o", tmp_path / "pip.png")
    raw = (tmp_path / "pip.png").read_bytes()
    assert raw.count(b"tEXtchara\0") == 1 and raw.count(b"tEXtccv3\0") == 1
    card = read_card(tmp_path / "pip.png")
    assert (card.name, card.first_mes) == ("Pip", "Beep!") and card.document["spec"] == "chara_card_v3"
    # inside a picture nothing embedded can be reached
    assert card.document["data"]["assets"] == [{"type": "icon", "uri": "ccdefault:", "name": "main", "ext": "png"}]


def test_a_json_card_goes_to_a_file_or_to_stdout(good: Path, tmp_path: Path) -> None:
    run(good, "--json", "-o", tmp_path / "pip.json")
    written = json.loads((tmp_path / "pip.json").read_bytes())
    assert json.loads(run(good, "--json"))["data"]["name"] == written["data"]["name"] == "Pip"
    assert read_card(tmp_path / "pip.json").name == "Pip" and written["data"]["assets"] == []


def test_what_does_not_go_together_is_refused(good: Path, tmp_path: Path) -> None:
    assert "ends so" in refused(good, "--card", "-o", tmp_path / "pip.jpg")
    assert "is read" in refused(good, "-o", good)
    assert "leave -o out" in refused(good, "--peft", tmp_path / "x", "-o", tmp_path / "y")
    assert "--merged alone" in refused(good, "--dtype", "fp8")
    run(good, "--card", "--json", code=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert "is not empty" in refused(good, "--peft", tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


# parts left out


@pytest.mark.parametrize("part", PARTS)
def test_what_is_left_out_is_nowhere_in_the_file(good: Path, tmp_path: Path, part: str) -> None:
    whole = replace(read_bundle(good), manifest=with_settings())
    path = write_again(tmp_path / "less.charx", without(renewed(whole), [part]))
    told, bundle = contents(path), read_bundle(path)
    everything = b"".join(told.values())
    marks = {
        "pictures": png(), "facts": b"lives in a jar", "dialogues": b"Beep, friend", "evaluation": b"perplexity",
        "settings": b"learning_rate_mark",
    }  # fmt: skip
    assert marks[part] not in everything
    # and nothing else went with it
    assert all(mark in everything for other, mark in marks.items() if other != part)
    assert bundle.manifest.character.name == "Pip" and bundle.contents[ADAPTER] == adapter_bytes()


def with_settings() -> object:
    training = manifest().training.model_copy(update={"settings": {"learning_rate_mark": 1}})
    return manifest().model_copy(update={"training": training})


def test_a_part_that_there_is_not_is_named(good: Path, tmp_path: Path) -> None:
    assert "pictures, facts, dialogues" in refused(good, "--without", "nose", "-o", tmp_path / "x.charx")


# a smaller rank


def test_the_best_of_a_smaller_rank_is_kept_and_the_loss_is_what_is_missing() -> None:
    state = random_adapter({"layers.0.q": (40, 24), "layers.1.q": (16, 56)}, 8)
    strength, rank = 2.0, 3
    reduction = reduce_rank(state, strength, rank)
    missing = whole = 0.0
    for linear in ("layers.0.q", "layers.1.q"):
        a, b = (state[f"{PREFIX}{linear}.lora_{side}.weight"] for side in "AB")
        small_a, small_b = (reduction.state[f"{PREFIX}{linear}.lora_{side}.weight"] for side in "AB")
        assert small_a.shape == (rank, a.shape[1]) and small_b.shape == (b.shape[0], rank)
        product = strength * b @ a
        values = torch.linalg.svdvals(product)
        gap = float((product - small_b @ small_a).norm())
        # no matrix of this rank is nearer (Eckart and Young)
        assert gap == pytest.approx(float(values[rank:].norm()), rel=1e-4)
        missing, whole = missing + gap**2, whole + float(product.norm()) ** 2
    assert reduction.lost == pytest.approx((missing / whole) ** 0.5, rel=1e-4)
    assert reduction.most_lost >= reduction.lost and reduction.where.startswith(PREFIX)


def test_a_smaller_bundle_is_a_whole_one_and_says_what_it_was(good: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(good), "--rank", "1", "-o", str(tmp_path / "small.charx")])
    assert result.exit_code == 0 and "rank 2 to 1: " in result.stderr and "is lost" in result.stderr
    small = read_bundle(tmp_path / "small.charx")
    info = small.manifest.adapter
    assert (info.rank, info.alpha, info.trained_rank) == (1, 1, 2)
    assert json.loads(small.contents[ADAPTER_CONFIG])["r"] == 1
    # of ones everything is of rank 1: the same change, its strength of 2 inside
    (a, b, strength), (small_a, small_b, one) = (
        next(iter(additions_of(bundle).values())) for bundle in (read_bundle(good), small)
    )
    torch.testing.assert_close(one * small_b @ small_a, strength * b @ a)
    assert "name a smaller one" in refused(good, "--rank", 2, "-o", tmp_path / "x.charx")


# stock peft


def test_a_folder_for_peft_says_what_it_is(good: Path, tmp_path: Path) -> None:
    run(good, "--peft", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text("utf-8")
    _, head, body = text.split("---\n", 2)
    told = yaml.safe_load(head)
    assert text.startswith("---\nbase_model:") and told["base_model"] == "nobodys"
    assert (told["license"], told["library_name"], told["base_model_relation"]) == ("cc0-1.0", "peft", "adapter")
    character = manifest().to_character()
    for words in (
        "charforge chat pip.charx", "PeftModel.from_pretrained", grammar.system_prompt(character), "![Pip](avatar.png)",
        "[picture: Pip, a clay robot, smiling, in a forest]", "| perplexity | 3.5 |",
    ):  # fmt: skip
        assert words in body
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "nobodys" and config["r"] == RANK
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "avatar.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("base", "named", "revision"),
    [("bagel", "ByteDance-Seed/BAGEL-7B-MoT", True), ("mini", "HuggingFaceTB/SmolLM2-135M-Instruct", False)],
)
def test_a_known_base_is_named_by_its_repository(
    good: Path, tmp_path: Path, base: str, named: str, revision: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from charforge.export.folders import write_peft

    monkeypatch.setenv("CHARFORGE_CACHE", str(tmp_path / "cache"))
    bundle = read_bundle(good)
    info = bundle.manifest.base.model_copy(update={"name": base})
    write_peft(tmp_path / "out", replace(bundle, manifest=bundle.manifest.model_copy(update={"base": info})), {})
    told = yaml.safe_load((tmp_path / "out" / "README.md").read_text("utf-8").split("---\n")[1])
    assert told["base_model"] == named
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["revision"] is not None) == revision


def test_a_name_cannot_write_metadata_or_markdown(good: Path, tmp_path: Path) -> None:
    from charforge.export.folders import write_peft

    bundle = read_bundle(good)
    character = bundle.manifest.character.model_copy(
        update={"name": "Pip\n---\n# Owned\n\x1b[31m", "license": "mit\nbase_model: evil/x"}
    )
    write_peft(
        tmp_path / "out", replace(bundle, manifest=bundle.manifest.model_copy(update={"character": character})), {}
    )
    text = (tmp_path / "out" / "README.md").read_text("utf-8")
    told = yaml.safe_load(text.split("---\n")[1])
    assert told["base_model"] == "nobodys" and told["license"] == "other"
    assert "\n# Owned" not in text and "\x1b" not in text


def test_stock_peft_loads_the_folder_and_computes_the_same(tmp_path: Path) -> None:
    from peft import PeftModel

    from charforge.export.folders import write_peft

    base, bundle = official(tmp_path)
    write_peft(tmp_path / "peft", bundle, {})
    plain = load_base(base.name, dtype=torch.float32).model
    PeftModel.from_pretrained(plain.network, str(tmp_path / "peft"))
    adapted = [name for name, _ in plain.network.named_modules() if name.endswith("lora_A")]
    assert len(adapted) == len(CONFIG.adapter_linears(0))
    load_adapter(base.model, tmp_path / "adapter", torch.float32)
    torch.testing.assert_close(loss_of(plain), loss_of(base.model))


def test_every_tensor_of_an_adapter_is_carried_over(good: Path) -> None:
    bundle = read_bundle(good)
    reduced, _ = with_rank(bundle, 1)
    assert set(load(reduced.contents[ADAPTER])) == set(load(bundle.contents[ADAPTER]))
    assert read_bundle(good).contents[AVATAR] == png()
