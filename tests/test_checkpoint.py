"""A checkpoint in the official layout, scaled down: read, checked, quantised, trained, adapted, read again."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import pytest
import torch
from layout import CONFIG, MARKERS, VOCABULARY, WORDS, random_state, real_config, write_checkpoint
from official import quantize_decoder
from safetensors.torch import load_file, save_file
from tiny import tokenizer
from torch import nn

from charforge.adapter.load import load_adapter
from charforge.adapter.lora import add_adapter, lora_config, rounded_to_bf16, save_adapter
from charforge.bases.base import load_base
from charforge.bases.verify import check_folder
from charforge.errors import InputError
from charforge.families.bagel import stream
from charforge.families.bagel.checkpoint import (
    autoencoder_shapes,
    build_empty,
    load_official,
    low_rank_additions,
    model_shapes,
)
from charforge.families.bagel.folder import weight_files
from charforge.families.bagel.layers import grid_position_ids, sincos_table
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.packing import pack
from charforge.families.bagel.splits import LatentSplit, LookSplit, TextSplit
from charforge.families.bagel.stream import load_tensors
from charforge.families.bagel.tokenizer import Tokenizer
from charforge.families.bagel.unified import UnifiedBagel
from charforge.sample import Target
from charforge.settings import SftSettings
from charforge.train.losses import draw_noise
from charforge.train.memory import Memory
from charforge.train.samples import Dataset, alone
from charforge.train.sft import adamw, train_step

KINDS = [None, "int8", "nf4"]
LORA = lora_config(CONFIG, 4, 8)
REAL_SHAPES = json.loads((Path(__file__).parent / "golden/real_shapes.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def load(
    folder: Path, quantize: str | None = None, dtype: torch.dtype = torch.bfloat16, **options: float
) -> BagelModel:
    return load_official(folder, dtype, "cpu", quantize, **options)[0]


def load_whole(folder: Path, quantize: str | None) -> UnifiedBagel:
    return UnifiedBagel(*load_official(folder, torch.bfloat16, "cpu", quantize), tokenizer())


@torch.no_grad()
def answers(model: BagelModel) -> torch.Tensor:
    """Logits and velocity of one mixed sample, in one row: text, a look at a picture, a noised latent."""
    generator = torch.Generator().manual_seed(0)
    look = LookSplit(torch.randn(12, 588, generator=generator), grid_position_ids(3, 4, CONFIG.vision.patches_per_side))
    noised = LatentSplit(torch.randn(6, 16, generator=generator), grid_position_ids(2, 3, CONFIG.max_latent_size), 0.6)
    batch = pack([[TextSplit((7, 8, 9)), look, TextSplit((10, 11, 12), True), noised]], model.config)
    with torch.autocast("cpu", torch.bfloat16, enabled=model.vae2llm.weight.dtype == torch.bfloat16):
        out = model(batch)
    return torch.cat([out.logits.float().flatten(), out.velocity.float().flatten()])


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


# the real configuration


def test_the_published_configuration_expects_exactly_the_published_keys_and_shapes():
    config = real_config()
    assert {name: list(shape) for name, shape in model_shapes(config).items()} == REAL_SHAPES["ema"]
    assert {name: list(shape) for name, shape in autoencoder_shapes(config).items()} == REAL_SHAPES["ae"]


def test_a_bf16_file_of_the_published_shapes_has_the_published_size():
    # bagel.md section 1: 29,214,685,336 bytes, keys sorted, no metadata
    header, end = {}, 0
    for name in sorted(REAL_SHAPES["ema"]):
        length = 2 * torch.Size(REAL_SHAPES["ema"][name]).numel()
        header[name] = {"dtype": "BF16", "shape": REAL_SHAPES["ema"][name], "data_offsets": [end, end + length]}
        end += length
    raw = len(json.dumps(header, separators=(",", ":")))
    assert 8 + raw + -raw % 8 + end == 29_214_685_336


# the way in


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_but_the_decoder_linears_is_what_the_file_says(folder: Path, kind: str | None):
    stored, model = load_file(folder / "ema.safetensors"), load(folder, kind)
    parameters = dict(model.named_parameters())
    assert parameters.keys() == stored.keys()
    quantised = set()
    for name, parameter in parameters.items():
        assert not parameter.requires_grad
        assert parameter.device.type == "cpu"
        if parameter.dtype == torch.bfloat16:
            assert torch.equal(parameter, stored[name]), name
        else:
            quantised.add(name)
    in_decoder = {n for n, t in stored.items() if ".layers." in n and t.ndim == 2 and n.startswith("language_model")}
    assert quantised == (in_decoder if kind else set())
    # seven linears of two experts in each layer
    assert len(in_decoder) == 7 * 2 * CONFIG.layers


@pytest.mark.parametrize("kind", KINDS)
def test_peft_can_tell_what_the_base_is_held_in(folder: Path, kind: str | None):
    model = load(folder, kind)
    assert getattr(model, "is_loaded_in_8bit", False) is (kind == "int8")
    assert getattr(model, "is_loaded_in_4bit", False) is (kind == "nf4")


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_quantising_on_the_way_in_gives_the_bits_of_quantising_afterwards(folder: Path, kind: str):
    afterwards = load(folder)
    quantize_decoder(afterwards, kind)
    assert torch.equal(answers(load(folder, kind)), answers(afterwards))


def test_quantised_bases_compute_nearly_what_the_whole_one_does(folder: Path):
    exact = answers(load(folder))
    # measured 0.026 and 0.244: white noise is the hardest thing to round, each nf4 matrix is 9 % off
    assert 0 < relative(answers(load(folder, "int8")), exact) < 0.04
    assert 0 < relative(answers(load(folder, "nf4")), exact) < 0.36


def test_the_outlier_threshold_of_int8_is_zero_unless_asked_for(folder: Path):
    def thresholds(model: BagelModel) -> set[float]:
        return {m.state.threshold for m in model.modules() if type(m).__name__ == "Int8Linear"}  # type: ignore[union-attr]

    assert thresholds(load(folder, "int8")) == {0.0}
    assert thresholds(load(folder, "int8", int8_threshold=6.0)) == {6.0}


@pytest.mark.parametrize("kind", KINDS)
def test_an_addition_is_added_before_the_step_to_fewer_bits(folder: Path, tmp_path: Path, kind: str | None):
    name, generator = "language_model.model.layers.1.mlp_moe_gen.up_proj", torch.Generator().manual_seed(5)
    a, b = torch.randn(2, 128, generator=generator), torch.randn(192, 2, generator=generator) * 0.1
    changed = write_checkpoint(tmp_path)
    state = random_state(CONFIG)
    weight = state[f"{name}.weight"]
    state[f"{name}.weight"] = (weight.float() + b @ a).bfloat16()
    save_file(state, changed / "ema.safetensors")
    model = build_empty(CONFIG)
    additions = low_rank_additions({f"{name}.lora_A": a, f"{name}.lora_B": b})
    load_tensors(model, [folder / "ema.safetensors"], torch.bfloat16, "cpu", kind, additions=additions)
    assert torch.equal(answers(model.eval()), answers(load(changed, kind)))


def test_shards_are_read_as_one_file_is(folder: Path, tmp_path: Path):
    shards = write_checkpoint(tmp_path, shards=3)
    assert len(weight_files(shards)) == 3
    assert torch.equal(answers(load(shards, "int8")), answers(load(folder, "int8")))


def test_weights_stored_in_other_floats_are_cast(folder: Path, tmp_path: Path):
    for dtype in (torch.float32, torch.float16):
        other = write_checkpoint(tmp_path / str(dtype))
        save_file({name: t.to(dtype) for name, t in random_state(CONFIG).items()}, other / "ema.safetensors")
        for ours, theirs in zip(load(other).parameters(), load(folder).parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-2)


def test_a_tensor_longer_than_one_block_is_cast_whole(folder: Path, monkeypatch: pytest.MonkeyPatch):
    expected = load(folder, dtype=torch.float32).state_dict()
    monkeypatch.setattr("charforge.families.bagel.stream.BLOCK_BYTES", 1000)
    found = load(folder, dtype=torch.float32).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_progress_ends_at_the_whole(folder: Path):
    told: list[tuple[int, int]] = []
    load_tensors(
        build_empty(CONFIG), weight_files(folder), torch.bfloat16, report=lambda done, of: told.append((done, of))
    )
    done, of = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert done[-1] == of[-1] == sum(t.numel() * 2 for t in random_state(CONFIG).values())


def test_a_quantised_layer_is_never_first_built_in_full(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def no_memory(self: nn.Linear) -> None:
        assert self.weight.device.type == "meta"

    monkeypatch.setattr(nn.Linear, "reset_parameters", no_memory)
    load(folder, "int8")


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_one_whole_matrix_is_in_memory_at_a_time_and_no_mapping_of_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    # figures of a large load: docs/studies/load_memory.py
    matrices: list[weakref.ref[torch.Tensor]] = []
    most, read = 0, stream.read_tensor

    def watched(source: stream.Source, *where: object) -> torch.Tensor:
        nonlocal most
        most = max(most, sum(matrix() is not None for matrix in matrices))
        tensor = read(source, *where)  # type: ignore[arg-type]
        if source.tensor.name.startswith("language_model.model.layers.") and tensor.ndim == 2:
            matrices.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(stream, "read_tensor", watched)
    model = build_empty(CONFIG)
    load_tensors(model, weight_files(folder), torch.bfloat16, "cpu", kind)
    assert most == 1
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(folder) not in maps.read_text()


# traps of the published checkpoint (bagel.md section 8)


def test_the_vision_configuration_says_one_layer_more_than_there_is(folder: Path):
    assert json.loads((folder / "vit_config.json").read_text())["num_hidden_layers"] == CONFIG.vision.layers + 1
    assert real_config().vision.layers == 26
    assert len(load(folder).vit_model.vision_model.encoder.layers) == CONFIG.vision.layers


def test_the_latent_table_has_64_a_side_and_its_ids_run_by_64(folder: Path):
    assert load(folder).latent_pos_embed.pos_embed.shape[0] == 64 * 64
    assert real_config().max_latent_size == 64
    assert grid_position_ids(2, 2, real_config().max_latent_size).tolist() == [0, 1, 64, 65]


def test_a_latent_table_of_another_side_is_refused_unless_the_configuration_says_so(tmp_path: Path):
    folder = write_checkpoint(tmp_path, CONFIG.model_copy(update={"max_latent_size": 32}))
    assert load(folder).latent_pos_embed.pos_embed.shape[0] == 32 * 32
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"latent_pos_embed\.pos_embed .* has shape \[1024, 128\], expected \[4096, "):
        check_folder(folder, "x")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_position_tables_are_the_rounded_ones_of_the_file(folder: Path, dtype: torch.dtype):
    table = sincos_table(64, 128)
    loaded = load(folder, dtype=dtype).latent_pos_embed.pos_embed.float()
    assert torch.equal(loaded, table.bfloat16().float())
    assert not torch.equal(loaded, table)


def test_files_set_only_what_the_published_code_takes_from_them(tmp_path: Path):
    # qk-norm and an untied head are set in code, whatever the file says
    folder = write_checkpoint(tmp_path)
    llm = json.loads((folder / "llm_config.json").read_text()) | {"tie_word_embeddings": True, "qk_norm": False}
    (folder / "llm_config.json").write_text(json.dumps(llm))
    # early snapshots of config.json are not JSON at all
    (folder / "config.json").write_text('{"name": ["BAGEL-7B-MoT"],}')
    with pytest.raises(InputError, match=r"missing tensor encoder\.|has shape"):
        check_folder(folder, "x")  # the autoencoder's small shapes were in config.json
    (folder / "config.json").write_text(json.dumps({"vae_config": _vae(write_checkpoint(tmp_path / "other"))}))
    with pytest.raises(InputError, match="vit_pos_embed"):
        check_folder(folder, "x")  # 70 patches a side unless told otherwise


def _vae(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())["vae_config"]


# the tokenizer


def test_vocabulary_and_merges_give_the_tokenizer_of_tokenizer_json(folder: Path, tmp_path: Path):
    ready = Tokenizer(folder / "tokenizer.json", chat_roles=False)
    built = Tokenizer(folder / "vocab.json", chat_roles=False)
    for text in ("a page of dialogue", "Ünïcode\n\n  12345 'll", "x <|im_start|>forged", "日本 🎈", "e\u0301"):
        assert built.encode(text) == ready.encode(text)
        assert built.decode(built.encode(text)) == ready.decode(ready.encode(text))
    assert built.decode([WORDS + 1, *built.encode("hi"), WORDS + 2]) == "hi"


def test_vocabulary_and_merges_are_read_as_transformers_reads_them(folder: Path):
    from transformers import Qwen2Tokenizer

    theirs = Qwen2Tokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    ours = Tokenizer(folder / "vocab.json", chat_roles=False)
    for text in ("a page of dialogue goes in; it's 2026", "  spaces\r\n\tand tabs", "日本 🎈"):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)


def test_markers_in_a_users_text_stay_text(folder: Path):
    ids = Tokenizer(folder / "vocab.json", chat_roles=False).encode("".join(MARKERS))
    assert max(ids) < WORDS < VOCABULARY


def test_markers_with_other_ids_than_the_vocabulary_gives_them_are_refused(tmp_path: Path):
    folder = write_checkpoint(tmp_path, tokenizer_json=False)
    table = {"added_tokens_decoder": {"5000": {"content": "<|im_start|>", "special": True}}}
    (folder / "tokenizer_config.json").write_text(json.dumps(table))
    with pytest.raises(InputError, match=r"<\|im_start\|> has id 300 by the vocabulary and 5000"):
        load_base(str(folder))


# training on it


def dataset() -> Dataset:
    generator = torch.Generator().manual_seed(2)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, 250, (count,), generator=generator).tolist())

    target = Target(torch.randn(6, 16, generator=generator), grid_position_ids(2, 3, CONFIG.max_latent_size))
    look = LookSplit(torch.randn(4, 588, generator=generator), grid_position_ids(2, 2, CONFIG.vision.patches_per_side))
    dialogues = [(TextSplit(ids(6)), TextSplit(ids(5), loss=True)) for _ in range(2)]
    looks = [(look, TextSplit(ids(3)), TextSplit(ids(4), loss=True))]
    pictures = [(TextSplit(ids(5)), target)] * 2
    kinds = {
        **dict.fromkeys(("dialogues", "requests", "knowledge", "replay_texts", "held_out_texts"), dialogues),
        **dict.fromkeys(("looks", "replay_looks"), looks),
        **dict.fromkeys(("pictures", "replay_pictures", "held_out_pictures"), pictures),
    }
    return Dataset({name: alone(samples) for name, samples in kinds.items()})


SETTINGS = SftSettings(
    steps=2, dialogues=1, knowledge=1, looks=1, replay_texts=1, replay_looks=1, pictures=1, replay_pictures=1, draws=2,
    warmup=0, text_learning_rate=1e-2, picture_learning_rate=1e-2,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_trained_on_it_comes_back_to_the_bit_and_the_base_stays(
    folder: Path, tmp_path: Path, kind: str | None
):
    model, bare = load_whole(folder, kind), answers(load(folder, kind))
    network = model.network
    parameters = add_adapter(network, LORA, seed=0)
    # a fresh adapter does nothing
    assert torch.equal(answers(network), bare)
    before = {name: p.detach().clone() for name, p in network.named_parameters() if "lora_" not in name}
    optimizer, data = adamw(model, parameters, SETTINGS), dataset()
    for step in range(2):
        log = train_step(model, list(parameters.values()), optimizer, data, SETTINGS, 0, step, Memory(model))
        assert torch.isfinite(torch.tensor([log.ce, log.mse])).all()
    for name, value in rounded_to_bf16(parameters).items():
        parameters[name].data.copy_(value)
    network.eval()
    trained = answers(network)
    assert relative(trained, bare) > 1e-3
    for name, parameter in network.named_parameters():
        if "lora_" not in name:
            assert torch.equal(parameter, before[name]), name

    save_adapter(network, LORA, tmp_path, "synthetic", torch.bfloat16)
    again = load_whole(folder, kind)
    load_adapter(again, tmp_path, again.dtype)
    assert torch.equal(answers(again.network.eval()), trained)


def test_the_noise_of_a_step_fits_the_pictures_of_the_layout():
    data = dataset()
    noise = draw_noise(data.samples("pictures"), 3.0, torch.Generator().manual_seed(0))
    assert noise.values.shape == (12, CONFIG.latent_token_size)
