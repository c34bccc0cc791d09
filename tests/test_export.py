"""What a bundle becomes for others: files that other programs read, and the same character inside."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from bundle_parts import RANK, adapter_bytes, manifest, png
from layout import CONFIG, write_checkpoint
from safetensors import safe_open
from safetensors.torch import load, save
from test_bundle import DIALOGUES
from typer.testing import CliRunner

from charforge import grammar
from charforge.adapter.load import load_adapter
from charforge.adapter.names import PREFIX, tensor_shapes
from charforge.bases.base import Base, load_base
from charforge.bases.drawing import draw_prompts
from charforge.bundle import Bundle, read_bundle, write_bundle
from charforge.bundle.card import OTHER_PROGRAMS
from charforge.bundle.manifest import ADAPTER, ADAPTER_CONFIG, AVATAR, CARD, FORMAT_VERSION, MANIFEST
from charforge.bundle.write import json_bytes
from charforge.character.cards import read_card
from charforge.cli.main import app
from charforge.errors import InputError
from charforge.export.folders import additions_of, write_merged
from charforge.export.parts import PARTS, renewed, with_rank, without, write_again
from charforge.export.rank import reduce_rank


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


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(adapter_bytes())
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 4}))
    return write_bundle(tmp_path / "run" / "pip.charx", manifest(), folder, DIALOGUES, png())


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


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


def random_adapter(linears: dict[str, tuple[int, int]], rank: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = tensor_shapes(linears, rank)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


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


def official(tmp_path: Path, rank: int = 4, shards: int = 0) -> tuple[Base, Bundle]:
    """A base in the official layout and a bundle of an adapter for it."""
    base = load_base(str(write_checkpoint(tmp_path / "base", shards=shards)), dtype=torch.float32)
    state = {name: tensor.bfloat16() for name, tensor in random_adapter(CONFIG.adapter_linears(0), rank).items()}
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(save(state, {"format": "pt"}))
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": CONFIG.adapter_pattern()}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    told = manifest()
    info = told.base.model_copy(update={"name": base.name, "content_hash": base.content_hash})
    told = told.model_copy(
        update={"base": info, "adapter": told.adapter.model_copy(update={"rank": rank, "alpha": 2 * rank})}
    )
    return base, read_bundle(write_bundle(tmp_path / "a.charx", told, folder, DIALOGUES, png()))


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


@torch.no_grad()
def loss_of(model: Any) -> torch.Tensor:
    return model.text_loss([(model.text("hello there", "user", False), model.text("I am Pip.", "assistant", True))])[0]


# whole weights


def picture_of(model: Any) -> Any:
    """A small picture without the bare base's share in guidance: merged weights have no bare base."""
    model.use_picture_sizes(None, None, 64, 4)
    config = model.network.config
    model.network.config = config.model_copy(
        update={"sampling": config.sampling.model_copy(update={"cfg_bare_above": 1.0})}
    )
    return draw_prompts(model, ["Pip in a forest"], [3])[0]


def keys(path: Path) -> dict[str, tuple[str, list[int]]]:
    with safe_open(path, "pt") as opened:
        return {
            name: (opened.get_slice(name).get_dtype(), opened.get_slice(name).get_shape())
            for name in opened.keys()  # noqa: SIM118
        }


@pytest.mark.parametrize("shards", [0, 3])
def test_merged_weights_are_the_base_with_its_adapter(tmp_path: Path, shards: int) -> None:
    base, bundle = official(tmp_path, shards=shards)
    told: list[tuple[int, int]] = []
    write_merged(tmp_path / "merged", bundle, "bf16", lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] and told == sorted(told)
    whole = write_checkpoint(tmp_path / "whole")
    # the same list of names, types and shapes as the published layout has
    assert keys(tmp_path / "merged" / "ema.safetensors") == keys(whole / "ema.safetensors")
    for name in ("ae.safetensors", "llm_config.json", "vit_config.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (Path(base.name) / name).read_bytes()
    merged = load_base(str(tmp_path / "merged"), dtype=torch.float32).model
    bare = loss_of(base.model)
    load_adapter(base.model, tmp_path / "adapter", torch.float32)
    adapted, inside = loss_of(base.model), loss_of(merged)
    assert abs(float(adapted - bare)) > 0.1
    torch.testing.assert_close(inside, adapted, rtol=0.02, atol=0.02)
    bare_picture, *pictures = [
        np.asarray(picture_of(model), float)
        for model in (load_base(base.name, dtype=torch.float32).model, base.model, merged)
    ]
    gap, change = np.abs(pictures[0] - pictures[1]).mean(), np.abs(pictures[0] - bare_picture).mean()
    # the sums are rounded to bf16, of which every step makes a little more
    assert gap < change / 5, (gap, change)


def test_merged_weights_are_sums_rounded_once(tmp_path: Path) -> None:
    base, bundle = official(tmp_path)
    write_merged(tmp_path / "merged", bundle, "bf16", lambda done, total: None)
    with (
        safe_open(tmp_path / "merged" / "ema.safetensors", "pt") as new,
        safe_open(Path(base.name) / "ema.safetensors", "pt") as old,
    ):
        additions = additions_of(bundle)
        for name in new.keys():  # noqa: SIM118
            before, after = old.get_tensor(name), new.get_tensor(name)
            addition = additions.get(name.removesuffix(".weight"))
            if addition is None:
                assert torch.equal(before, after), name
            else:
                a, b, strength = addition
                expected = (before.double() + strength * b.double() @ a.double()).float()
                torch.testing.assert_close(after.float(), expected, rtol=2**-8, atol=1e-6)


def test_fp8_has_one_scale_a_matrix_and_is_read_back(tmp_path: Path) -> None:
    _, bundle = official(tmp_path)
    for precision in ("bf16", "fp8"):
        write_merged(tmp_path / precision, bundle, precision, lambda done, total: None)
    found = keys(tmp_path / "fp8" / "ema.safetensors")
    linears = [f"{linear}.weight" for linear in CONFIG.adapter_linears(0)]
    assert {name for name, (dtype, _) in found.items() if dtype == "F8_E4M3"} == set(linears)
    assert all(found[f"{name}_scale"] == ("F32", [1]) for name in linears)
    told = json.loads((tmp_path / "fp8" / "llm_config.json").read_text())["quantization_config"]
    assert told["quant_method"] == "fp8" and {
        "language_model.lm_head", "connector.fc1", "bagel.connector.fc1",
    } <= set(told["ignored_layers"])  # fmt: skip
    exact, rounded = (load_base(str(tmp_path / one), dtype=torch.float32).model for one in ("bf16", "fp8"))
    for name in linears[:4]:
        want, have = exact.network.get_parameter(name), rounded.network.get_parameter(name)
        # three bits of mantissa: at most 1/16 off, or half the smallest step of the scale
        assert float((want - have).abs().max() / want.abs().max()) < 1 / 16
    torch.testing.assert_close(loss_of(rounded), loss_of(exact), rtol=0.05, atol=0.05)
    assert (tmp_path / "fp8" / "ema.safetensors").stat().st_size < (
        tmp_path / "bf16" / "ema.safetensors"
    ).stat().st_size


def test_only_the_right_base_is_merged_and_only_one_with_a_layout(tmp_path: Path) -> None:
    _, bundle = official(tmp_path)
    other = bundle.manifest.base.model_copy(update={"content_hash": "0" * 64})
    wrong = replace(bundle, manifest=bundle.manifest.model_copy(update={"base": other}))
    with pytest.raises(InputError, match=r"was trained on .*here is"):
        write_merged(tmp_path / "x", wrong, "bf16", lambda done, total: None)
    assert not (tmp_path / "x").exists()


def test_the_embedded_base_has_no_layout_to_be_merged_in(tmp_path: Path) -> None:
    from charforge.bases.where import find_base
    from charforge.families import family_of

    files = find_base("mini")
    with pytest.raises(InputError, match="no published layout"):
        family_of(files.config_folder).merge(files, {}, tmp_path / "x", "bf16", lambda done, total: None)
    assert not (tmp_path / "x").exists()


MEMORY = """
import resource, sys
from pathlib import Path
from charforge.bundle import read_bundle
from charforge.export.folders import write_merged
bundle = read_bundle(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_merged(Path(sys.argv[2]), bundle, sys.argv[3], lambda done, total: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_merging_never_holds_the_whole(tmp_path: Path, precision: str) -> None:
    from charforge.families.bagel.config import ExpertConfig

    wide = ExpertConfig(hidden_size=1024, intermediate_size=4096)
    config = CONFIG.model_copy(
        update={"layers": 8, "heads": 16, "kv_heads": 4, "head_dim": 64, "understanding": wide, "generation": wide}
    )
    folder = write_checkpoint(tmp_path / "base", config)
    size = (folder / "ema.safetensors").stat().st_size
    state = random_adapter(config.adapter_linears(0), 2)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(save(state, {"format": "pt"}))
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    from charforge.bases.base import content_hash
    from charforge.bases.where import find_base

    base = manifest().base.model_copy(
        update={"name": str(folder), "content_hash": content_hash(list(find_base(str(folder)).identity))}
    )
    path = write_bundle(tmp_path / "a.charx", manifest().model_copy(update={"base": base}), adapter, DIALOGUES, png())
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(tmp_path / "merged"), precision],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    grown = int(done.stdout) * 1024
    largest = 4 * 1024 * 4096 * 4
    assert size > 3 * largest and grown < size / 2, (grown, size)


def test_every_tensor_of_an_adapter_is_carried_over(good: Path) -> None:
    bundle = read_bundle(good)
    reduced, _ = with_rank(bundle, 1)
    assert set(load(reduced.contents[ADAPTER])) == set(load(bundle.contents[ADAPTER]))
    assert read_bundle(good).contents[AVATAR] == png()
