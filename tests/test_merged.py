"""Whole weights with the adapter inside: the sums, the layout, fp8, and never the whole in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_parts import manifest, png
from exported import loss_of, official, random_adapter
from layout import CONFIG, write_checkpoint
from safetensors import safe_open
from safetensors.torch import save
from test_bundle import DIALOGUES

from charforge.adapter.load import load_adapter
from charforge.bases.base import load_base
from charforge.bases.drawing import draw_prompts
from charforge.bundle import write_bundle
from charforge.errors import InputError
from charforge.export.folders import additions_of, write_merged


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
    assert told["quant_method"] == "fp8" and told["is_checkpoint_fp8_serialized"] and {
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
    with pytest.raises(InputError, match=r"was trained on other weights"):
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
    from charforge.bases.hashes import content_hash
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
