"""The README.md of an exported folder: metadata for the model hub, then what a person needs to use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from charforge.bases.origin import MINI_LANGUAGE_MODEL, Origin, origin_of
from charforge.bundle.manifest import BaseInfo, Manifest
from charforge.bundle.readme import one_line, prompts_section, shown_base
from charforge.words import called, file_stem

# names of licences as the hub has them; any other is told in words
LICENSES = (
    "apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0",
    "cc-by-nc-nd-4.0", "openrail", "gpl-3.0", "agpl-3.0", "bsd-3-clause",
)  # fmt: skip


def published_base(base: BaseInfo) -> Origin:
    """Where the base of a bundle was published: as the bundle says, else as is known of its name."""
    if base.repository is not None:
        return Origin(base.repository, base.revision)
    return origin_of(base.name)


def _metadata(manifest: Manifest, relation: str) -> str:
    base, who = manifest.base, manifest.character
    origin = published_base(base)
    named = origin.repository or (MINI_LANGUAGE_MODEL if base.name == "mini" else shown_base(base.name))
    told = one_line(who.license)
    known = told.lower().replace(" ", "-")
    license_fields: dict[str, Any] = (
        {"license": known}
        if known in LICENSES
        else {"license": "other", "license_name": file_stem(told) if told else "not-stated"}
    )
    fields = {
        "base_model": named,
        "base_model_relation": relation,
        **license_fields,
        **({"library_name": "peft"} if relation == "adapter" else {}),
        "pipeline_tag": "any-to-any",
        "tags": ["charforge", "character", "role-play", *(["lora"] if relation == "adapter" else [])],
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---\n"


def peft_card(manifest: Manifest, pictures: Sequence[str], bundle: str | None) -> str:
    """Of a folder for peft. ``pictures`` are files beside it, ``bundle`` is a .charx beside it, if there is one."""
    base = manifest.base
    use = f"charforge chat {bundle or file_stem(manifest.character.name) + '.charx'}"
    return "\n".join(
        [
            _metadata(manifest, "adapter"),
            _opening(manifest, pictures),
            f"LoRA adapter of rank {manifest.adapter.rank} (alpha {manifest.adapter.alpha}) for {_base_words(base)}\n",
            "## With charforge\n",
            "It speaks, and draws what it speaks of:\n",
            f"    pip install charforge\n    {use}\n",
            "## With peft alone\n",
            "The adapter's names are those of the published BAGEL code (`language_model.model.layers.…`). On a model "
            "with these modules:\n",
            "```python\nfrom peft import PeftModel\n\n"
            "model = ...  # your BAGEL model, its weights loaded\n"
            'model = PeftModel.from_pretrained(model, "FOLDER")\n```\n',
            "Both experts carry it: `q_proj` and its siblings read and speak, `*_moe_gen` draw.\n",
            prompts_section(manifest),
            _figures(manifest),
        ]
    )


def merged_card(manifest: Manifest, precision: str) -> str:
    """Of a folder with whole weights."""
    fp8 = (
        "The decoder's linears are stored as float8 (e4m3) with one scale a matrix (`weight_scale`), everything else "
        "as bfloat16.\n"
        if precision == "fp8"
        else "All weights are bfloat16; the files have the names and keys of the published checkpoint.\n"
    )
    return "\n".join(
        [
            _metadata(manifest, "merge"),
            _opening(manifest, ()),
            f"The whole model with the character in its weights, made from {_base_words(manifest.base)}\n",
            fp8,
            "`ema.safetensors` is the model, `ae.safetensors` the autoencoder of pictures. Programs that load the "
            "published base load this folder in the same way. To train or look at it with charforge: "
            "`charforge base add FOLDER --name NAME`. Guidance that leads away from the base without its adapter is "
            "not possible here, so pictures differ a little from those of the bundle.\n",
            prompts_section(manifest),
            _figures(manifest),
        ]
    )


def _opening(manifest: Manifest, pictures: Sequence[str]) -> str:
    who = manifest.character
    name = one_line(who.name)
    terms = one_line(who.license) or "not stated"
    lines = [
        f"# {name}\n",
        f"{called(name, one_line(who.class_noun))}. By {one_line(who.author) or 'unknown'}, licence: {terms}.\n",
    ]
    lines += [f"![{name}]({picture})\n" for picture in pictures]
    return "\n".join(lines)


def _base_words(base: BaseInfo) -> str:
    origin = published_base(base)
    if origin.repository is None:
        known = "the base that comes with charforge" if base.name == "mini" else "of which no published source is known"
        return f"`{shown_base(base.name)}`, {known}; hash of its weights `{base.content_hash}`."
    commit = f" at commit `{origin.revision}`" if origin.revision else ""
    return (
        f"`{origin.repository}`{commit}; hash of its weights `{base.content_hash}`, trained on it in {base.precision}."
    )


def _figures(manifest: Manifest) -> str:
    rows = [
        f"| {one_line(name)} | {'not measured' if value is None else f'{value:g}'} |"
        for name, value in manifest.evaluation.items()
    ]
    if not rows:
        return ""
    rank = manifest.adapter.trained_rank
    cut = f" They were measured at rank {rank}, before it was made smaller.\n" if rank else ""
    return "\n".join(
        [
            "## Measured\n",
            "`_off` is the base without the adapter, `_on` with it. Held-out texts and pictures were in no training."
            f"{cut}\n",
            "| figure | value |",
            "|---|---|",
            *rows,
            "",
        ]
    )
