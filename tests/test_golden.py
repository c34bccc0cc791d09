"""Parity with the official BAGEL code on a tiny random model (tests/golden, fp32, atol 1e-4, u8 +-1)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from charforge.families.bagel import images
from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.checkpoint import load_official
from charforge.families.bagel.config import SamplingConfig, SpecialTokens
from charforge.families.bagel.context import Context, empty_context, extend_context
from charforge.families.bagel.decode import generate_text
from charforge.families.bagel.layers import grid_position_ids, rotary_tables, sincos_table, timestep_sinusoid
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.packing import Pack, pack, with_noise
from charforge.families.bagel.sampler import Guidance, draw, draw_steps, timestep_schedule
from charforge.families.bagel.sizes import MAX_PIXELS, resized
from charforge.families.bagel.splits import LatentSplit, LookSplit, Split, TextSplit
from charforge.families.bagel.vision import patchify
from charforge.flow import interpolate, logit_normal_timesteps, target_velocity
from charforge.pixels import to_image, to_pixels, to_rgb

GOLDEN = Path(__file__).parent / "golden"
META = json.loads((GOLDEN / "meta.json").read_text())
ATOL = 1e-4


def golden(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"{name}_fp32.safetensors")


def close(actual: torch.Tensor, expected: torch.Tensor, atol: float = ATOL) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=1e-4)


def golden_base(quantize: str | None = None) -> tuple[BagelModel, Autoencoder]:
    """The golden checkpoint, its decoder linears quantised or whole, everything else in fp32."""
    model, autoencoder = load_official(GOLDEN / "ckpt", torch.float32, quantize=quantize)
    tokens = META["special_token_ids"]
    ids = SpecialTokens(
        bos=tokens["bos_token_id"],
        eos=tokens["eos_token_id"],
        image_start=tokens["start_of_image"],
        image_end=tokens["end_of_image"],
    )
    model.config = model.config.model_copy(update={"special_tokens": ids})
    return model, autoencoder


@pytest.fixture(scope="module")
def base() -> tuple[BagelModel, Autoencoder]:
    return golden_base()


def test_the_vision_config_says_one_layer_more_than_the_checkpoint_holds(base):
    assert json.loads((GOLDEN / "ckpt/vit_config.json").read_text())["num_hidden_layers"] == 3
    assert base[0].config.vision.layers == 2


def test_the_position_table_comes_from_the_file_and_is_bf16_rounded(base):
    table, stored = sincos_table(8, 64), base[0].latent_pos_embed.pos_embed
    close(table, golden("unit")["latent_pos_embed_fp32"], 1e-6)
    assert not torch.equal(table, stored)
    assert torch.equal(table.bfloat16().float(), stored)


def test_unit_tables(base):
    model, unit = base[0], golden("unit")
    close(timestep_sinusoid(unit["t"], 256), unit["timestep_sinusoid_256"], 1e-6)
    close(model.time_embedder(unit["t"]), unit["time_embedder_out"])
    assert torch.equal(patchify(unit["patchify14_in"], 14), unit["patchify14_out"])
    for rows, columns in ((3, 4), (5, 2), (7, 7), (10, 9)):
        name = f"{rows}x{columns}_of10"
        assert torch.equal(grid_position_ids(rows, columns, 10), unit[f"pos_extrapolate_{name}"])
        assert torch.equal(grid_position_ids(rows, columns, 10, True), unit[f"pos_interpolate_{name}"])
    assert torch.equal(grid_position_ids(4, 4, 64), unit["pos_extrapolate_vae_64x64px_of64"])
    cos, sin = rotary_tables(unit["rope_pos"], 16, 1e6)
    close(cos, unit["rope_cos"], 1e-6)
    close(sin, unit["rope_sin"], 1e-6)


def test_vision_tower(base):
    model, unit = base[0], golden("unit")
    patches = patchify(unit["vit_single_image"], 14)
    ids = grid_position_ids(3, 4, 10)
    close(model.vit_model.vision_model.embeddings(patches, ids), unit["vit_single_embed"])
    close(model.vit_model(patches, ids, [12]), unit["vit_single_out"])


def test_preprocessing_of_opaque_and_transparent_pictures():
    unit = golden("unit")
    for name, mode in (("pre0", "RGB"), ("pre1", "RGBA")):
        rgb = to_rgb(Image.fromarray(unit[f"{name}.in_u8"].numpy(), mode))
        assert torch.equal(torch.from_numpy(__import__("numpy").array(rgb)), unit[f"{name}.rgb_u8"])
        for kind, rule in (("vae", (64, 32, 16)), ("vit", (84, 28, 14))):
            expected = unit[f"{name}.{kind}_{'_'.join(map(str, rule))}"]
            close(to_pixels(rgb, resized(*rgb.size, *rule)), expected, 1e-6)


@pytest.mark.parametrize("rule", sorted(META["resize_rule"]))
def test_resize_rule(rule):
    name, _, number = rule.partition("_img_num_")
    maximum, minimum, stride = (int(part) for part in name.split("_")[-3:])
    max_pixels = 2_007_040 if name.startswith("vlm") else MAX_PIXELS
    for case in META["resize_rule"][rule]:
        size = resized(case["w"], case["h"], maximum, minimum, stride, max_pixels, int(number or 1))
        assert size == (case["out_w"], case["out_h"]), case


def samples_of(data: dict[str, torch.Tensor], meta: dict) -> list[list[Split]]:
    """Rebuild our splits from the official packed arrays."""
    texts = dict(zip(data["in.packed_text_indexes"].tolist(), data["in.packed_text_ids"].tolist(), strict=True))
    labels = dict(zip(data["in.ce_loss_indexes"].tolist(), data["in.packed_label_ids"].tolist(), strict=True))
    vae = {index: row for row, index in enumerate(data["in.packed_vae_token_indexes"].tolist())}
    vit = {index: row for row, index in enumerate(data["in.packed_vit_token_indexes"].tolist())}
    normal = data["in.packed_timesteps"]
    samples: list[list[Split]] = []
    start, ends = 0, torch.tensor(meta["sample_lens"]).cumsum(0).tolist()
    current: list[Split] = []
    for length in meta["split_lens"]:
        inside = range(start, start + length)
        if start + 1 in vae:
            rows = [vae[i] for i in inside if i in vae]
            time = float(logit_normal_timesteps(normal[rows[0]], 1.0))
            current.append(LatentSplit(torch.zeros(len(rows), 16), data["in.packed_latent_position_ids"][rows], time))
        elif start + 1 in vit:
            rows = [vit[i] for i in inside if i in vit]
            current.append(LookSplit(data["in.packed_vit_tokens"][rows], data["in.packed_vit_position_ids"][rows]))
        else:
            ids = tuple(texts[i] for i in inside)[1:-1]
            current.append(TextSplit(ids, start in labels, labels.get(start + length - 1)))
        start += length
        if start in ends:
            samples.append(current)
            current = []
    return samples


def packed_positions(batch: Pack, meta: dict, data: dict[str, torch.Tensor]) -> torch.Tensor:
    """Our two streams' positions back in the official order."""
    total = meta["sequence_length"] if "sequence_length" in meta else sum(meta["sample_lens"])
    order = torch.zeros(total, dtype=torch.long)
    vae = data["in.packed_vae_token_indexes"]
    mask = torch.ones(total, dtype=torch.bool)
    mask[vae] = False
    order[mask] = batch.layout.understanding_positions
    order[vae] = batch.layout.generation_positions
    return order


@pytest.mark.parametrize("case", ["basic", "edit"])
def test_training_forward_and_gradients(base, case):
    model, autoencoder = base
    data, meta = golden(f"train_{case}"), META[f"train_{case}"]
    latent = autoencoder.encode(data["in.padded_images"], data["in.vae_sample_noise"])
    close(latent, data["in.padded_latent"])
    x0 = torch.cat(
        [
            images.patchify_latent(latent[index, :, : rows * 2, : columns * 2], 2)
            for index, (rows, columns) in enumerate(meta["patchified_vae_latent_shapes"])
        ]
    )
    batch = pack(samples_of(data, meta), model.config)
    assert torch.equal(packed_positions(batch, meta, data), data["in.packed_position_ids"])
    assert torch.equal(batch.labels, data["in.packed_label_ids"])
    for row, length in enumerate(meta["sample_lens"]):
        ours = batch.layout.joint.visible[row, :length, :length]
        assert torch.equal(ours, data[f"in.attn_allowed.{row}"])

    noise = data["in.flow_noise"]
    for shift, suffix in ((3.0, "_shift3"), (1.0, "")):
        times = logit_normal_timesteps(data["in.packed_timesteps"], shift)
        if shift == 1.0:
            close(times, data["out.timesteps_shifted"], 1e-6)
        ours = with_noise(batch, interpolate(x0, noise, times), times)
        model.zero_grad()
        model.requires_grad_(True)
        output = model(ours)
        ce = torch.nn.functional.cross_entropy(output.logits, ours.labels, reduction="none")
        noised = ours.noised_rows
        mse = (output.velocity[noised] - target_velocity(x0, noise)[noised]) ** 2
        close(ce, data[f"out.ce{suffix}"])
        close(mse, data[f"out.mse{suffix}"])
    close(ours_llm_in(model, ours, data), data["mid.llm_in"])
    (ce.mean() + mse.mean()).backward()
    parameters = dict(model.named_parameters())
    compared = 0
    for name, expected in data.items():
        if name.startswith("grad."):
            close(parameters[name.removeprefix("grad.")].grad, expected)
            compared += 1
    assert compared == 10
    for name, norm in META[f"train_{case}_result"]["fp32"]["grad_norms"].items():
        grad = parameters[name].grad
        assert (0.0 if grad is None else float(grad.norm())) == pytest.approx(norm, abs=ATOL, rel=1e-4), name
    model.requires_grad_(False)


def ours_llm_in(model: BagelModel, batch: Pack, data: dict[str, torch.Tensor]) -> torch.Tensor:
    vae = data["in.packed_vae_token_indexes"]
    out = torch.zeros_like(data["mid.llm_in"])
    mask = torch.ones(out.shape[0], dtype=torch.bool)
    mask[vae] = False
    out[mask] = model.embed_understanding(batch)
    out[vae] = model.embed_latents(batch)
    return out.detach()


def packed_cache(context: Context, part: int) -> torch.Tensor:
    """Official form: (layers, tokens of all samples in turn, kv heads, head_dim)."""
    assert context.cache is not None
    return torch.stack([layer[part][context.valid] for layer in context.cache])


def greedy(logits: torch.Tensor) -> torch.Tensor:
    return logits.argmax(-1)


@pytest.mark.parametrize("case", ["single", "batch2", "single_stop"])
def test_understanding(base, case):
    model, data, meta = base[0], golden("und"), META["und"]["fp32"][case]
    prompts = meta["prompts"]
    looks: list[Split] = []
    for index in range(len(prompts)):
        image = data[f"in.image{index}"]
        ids = grid_position_ids(image.shape[1] // 14, image.shape[2] // 14, 10)
        looks.append(LookSplit(patchify(image, 14), ids))
    with torch.no_grad():
        context = extend_context(model, empty_context(len(prompts)), looks)
        close(packed_cache(context, 0), data[f"{case}.k_after_vit"])
        close(packed_cache(context, 1), data[f"{case}.v_after_vit"])
        assert list(context.positions) == meta["context"][0]["ropes"]
        context = extend_context(model, context, [TextSplit(tuple(ids)) for ids in prompts])
        close(packed_cache(context, 0), data[f"{case}.k_after_text"])
        close(packed_cache(context, 1), data[f"{case}.v_after_text"])
        assert list(context.positions) == meta["context"][1]["ropes"]
        assert context.valid.sum(1).tolist() == meta["context"][1]["kv_lens"]
        fed, logits = generate_text(model, context, greedy, meta["max_length"], stop=meta.get("end_token_id"))
    expected = [tokens[1:] for tokens in meta["tokens"]]
    steps = data[f"{case}.step_logits"]
    for ours, theirs in zip(logits, steps, strict=False):
        close(ours, theirs)
    if case == "single_stop":
        assert fed == expected
    else:
        assert [tokens[: len(wanted)] for tokens, wanted in zip(fed, expected, strict=True)] == expected


def text_context(model: BagelModel, context: Context, ids: list[int]) -> Context:
    return extend_context(model, context, [TextSplit(tuple(ids))])


def edit_image_context(model: BagelModel, autoencoder: Autoencoder, context: Context) -> Context:
    data = golden("gen")
    latent = autoencoder.encode(data["in.edit_vae_pixels"][None], data["in.edit_vae_sample_noise"])[0]
    context = extend_context(model, context, [images.latent_split(latent, model.config)])
    pixels = data["in.edit_vit_pixels"]
    ids = grid_position_ids(pixels.shape[1] // 14, pixels.shape[2] // 14, 10)
    return extend_context(model, context, [LookSplit(patchify(pixels, 14), ids)])


def guidance(model: BagelModel, autoencoder: Autoencoder, kind: str) -> Guidance:
    empty, meta = empty_context(), META["gen"]
    if kind == "t2i":
        text = text_context(model, empty, meta["prompt_t2i"])
        return Guidance(text, empty, text)
    image = edit_image_context(model, autoencoder, empty)
    full = text_context(model, image, meta["prompt_edit"])
    return Guidance(full, image, text_context(model, empty, meta["prompt_edit"]))


@torch.no_grad()
def test_contexts_of_guidance(base):
    data = golden("gen")
    for kind in ("t2i", "edit"):
        contexts = guidance(*base, kind)
        for name, context in (
            ("gen", contexts.full),
            ("cfg_text", contexts.without_text),
            ("cfg_img", contexts.without_images),
        ):
            meta = META["gen"]["contexts"][f"{kind}.{name}"]
            assert context.valid.sum(1).tolist() == meta["kv_lens"]
            assert list(context.positions) == meta["ropes"]
        close(packed_cache(contexts.full, 0), data[f"ctx.{kind}.gen.k"])
        close(packed_cache(contexts.full, 1), data[f"ctx.{kind}.gen.v"])


def settings_of(meta: dict) -> SamplingConfig:
    return SamplingConfig(
        steps=meta["num_timesteps"],
        timestep_shift=meta["timestep_shift"],
        cfg_text_scale=meta["cfg_text_scale"],
        cfg_img_scale=meta["cfg_img_scale"],
        cfg_interval=tuple(meta["cfg_interval"]),
        cfg_renorm_type=meta["cfg_renorm_type"],
        cfg_renorm_min=meta["cfg_renorm_min"],
    )


def decoded(autoencoder: Autoencoder, latent: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    pixels = autoencoder.decode(images.unpatchify_latent(latent, rows, columns, 2)[None])[0]
    return torch.from_numpy(__import__("numpy").array(to_image(pixels)))


@torch.no_grad()
@pytest.mark.parametrize("case", sorted(k for k in META["gen"]["cases"]))
def test_sampler(base, case):
    model, autoencoder = base
    data, meta = golden("gen"), META["gen"]["cases"][case]
    height, width = meta["image_shape"]
    rows, columns = height // 16, width // 16
    ids = grid_position_ids(rows, columns, model.config.max_latent_size)
    settings = settings_of(meta)
    times = timestep_schedule(settings.steps, settings.timestep_shift)
    close(times[:-1], torch.tensor(meta["timesteps"]), 1e-6)
    noise = data[f"in.noise_{meta['kind']}"][None]
    steps = list(draw_steps(model, guidance(model, autoencoder, meta["kind"]), noise, ids, settings))
    latent = steps[-1].states[0]
    close(torch.cat([noise, *(step.states for step in steps[:-1])]), data[f"{case}.x_t"])
    close(torch.cat([step.velocity for step in steps]), data[f"{case}.v_t"])
    close(latent, data[f"{case}.latent"])
    difference = decoded(autoencoder, latent, rows, columns).int() - data[f"{case}.image_u8"].int()
    assert difference.abs().max() <= 1


@torch.no_grad()
def test_two_pictures_side_by_side_equal_each_alone(base):
    model, autoencoder = base
    data, meta = golden("gen"), META["gen"]["cases"]["t2i_global"]
    contexts = guidance(model, autoencoder, "t2i")
    pair = Guidance(*(c.select([0, 0]) for c in (contexts.full, contexts.without_text, contexts.without_images)))
    noise = torch.stack([data["in.noise_t2i"], -data["in.noise_t2i"]])
    latents = draw(model, pair, noise, grid_position_ids(3, 4, 8), settings_of(meta))
    close(latents[0], data["t2i_global.latent"])


@torch.no_grad()
@pytest.mark.parametrize("case", ["think_t2i", "think_edit"])
def test_thinking_then_drawing(base, case):
    model, autoencoder = base
    data, meta = golden("gen"), META["gen"][case]
    kind = case.removeprefix("think_")
    system, _, user, _, thought = meta["prompt_ids_in_call_order"]
    height, width = META["gen"][f"shape_{kind}"]
    gen = text_context(model, empty_context(), system)
    if kind == "edit":
        gen = edit_image_context(model, autoencoder, gen)
    before_text = gen
    gen = text_context(model, gen, user)
    ids, _ = generate_text(model, gen, greedy, meta["max_think_token_n"])
    assert thought[: len(ids[0])] == ids[0][: len(thought)]
    full = text_context(model, gen, thought)
    texts = text_context(model, text_context(model, empty_context(), system), user)
    noise = data[f"in.noise_{kind}"][None]
    rows, columns = height // 16, width // 16
    positions = grid_position_ids(rows, columns, 8)
    latent = draw(model, Guidance(full, before_text, texts), noise, positions, settings_of(meta))[0]
    difference = decoded(autoencoder, latent, rows, columns).int() - data[f"{case}.image_u8"].int()
    assert difference.abs().max() <= 1


@torch.no_grad()
def test_autoencoder(base):
    autoencoder, data = base[1], golden("ae")
    close(autoencoder.moments(data["in.image"]), data["encoder_moments"])
    mean = autoencoder.encode(data["in.image"])
    close(mean, data["latent_mean"])
    close(autoencoder.encode(data["in.image"], data["in.sample_noise"]), data["latent_sampled"])
    close(autoencoder.decode(mean), data["decoded_mean"])
    close(autoencoder.decode(data["latent_sampled"]), data["decoded_sampled"])
