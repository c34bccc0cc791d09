"""The routes of AUTOMATIC1111's web UI that front ends use for pictures: a character is a checkpoint there.

Sizes, samplers and steps are those of the base, whatever is asked for: the answer's ``info`` says what was used. Front
ends send those of other models by themselves, which is no reason to refuse; what none could mean is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.exceptions import HTTPException

from charforge.errors import InputError
from charforge.serve.answers import Json
from charforge.serve.engine import Drawn, Engine, PictureOrder, Voice
from charforge.serve.listening import unless_gone
from charforge.serve.requests import MOST_SIDE, Body, base64_png, chosen_seed
from charforge.serve.studio import Studio
from charforge.serve.voices import NoSuchModel, voice_of

router = APIRouter(prefix="/sdapi/v1", tags=["pictures, as AUTOMATIC1111's web UI"])
SAMPLER = "Euler"
MOST_PICTURES = 8
LORA = re.compile(r"<lora:([^:>]{1,100})(?::[^>]{0,40})?>")
MOST_STEPS = 1000
Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]


class Override(Body):
    """What of the web UI's settings a request may choose for itself."""

    sd_model_checkpoint: str | None = None


class TextToImage(Body):
    """POST /sdapi/v1/txt2img. Sizes, steps, samplers and guidance are looked at, and not followed."""

    prompt: Annotated[str, Field(max_length=4000)] = ""
    seed: Annotated[int, Field(ge=-1, lt=2**63)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=MOST_PICTURES)] | None = None
    n_iter: Annotated[int, Field(ge=1, le=MOST_PICTURES)] | None = None
    width: Side | None = None
    height: Side | None = None
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None
    cfg_scale: Annotated[float, Field(allow_inf_nan=False)] | None = None
    sampler_name: str | None = None
    override_settings: Override | None = None


class Options(Body):
    """POST /sdapi/v1/options."""

    sd_model_checkpoint: str | None = None


@router.get("/options")
async def options(request: Request) -> Json:
    """What is chosen."""
    studio: Studio = request.app.state.studio
    return {"sd_model_checkpoint": studio.chosen, "sd_vae": "Automatic", "samples_format": "png"}


@router.post("/options")
async def choose(request: Request, body: Options) -> Json:
    """Choose the character that is drawn from now on, for everybody who does not name one."""
    if body.sd_model_checkpoint is not None:
        studio: Studio = request.app.state.studio
        studio.chosen = voice_of(request.app.state.engine.voices, _id_of(body.sd_model_checkpoint)).id
    return {}


@router.get("/sd-models")
async def sd_models(request: Request) -> list[Json]:
    """The characters."""
    engine: Engine = request.app.state.engine
    return [
        {
            "title": voice.id, "model_name": voice.id, "hash": None, "sha256": None, "filename": f"{voice.id}.charx",
            "config": None,
        }
        for voice in engine.voices.values()
    ]  # fmt: skip


@router.get("/samplers")
async def samplers() -> list[Json]:
    """The one there is: Euler steps of the flow."""
    return [{"name": SAMPLER, "aliases": ["euler"], "options": {}}]


@router.get("/schedulers")
async def schedulers() -> list[Json]:
    """The base's own."""
    own = {"default_rho": -1.0, "need_inner_model": False, "aliases": None}
    return [{"name": "automatic", "label": "Automatic", **own}]


@router.get("/upscalers")
async def upscalers() -> list[Json]:
    """None."""
    return [{"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 4.0}]


@router.get("/latent-upscale-modes")
async def latent_upscale_modes() -> list[Json]:
    """None."""
    return [{"name": "None"}]


@router.get("/sd-vae")
@router.get("/loras")
@router.get("/hypernetworks")
@router.get("/embeddings")
async def nothing() -> list[Json]:
    """There are none to choose from."""
    return []


@router.get("/progress")
async def progress(request: Request, skip_current_image: bool = False) -> Json:
    """How far the picture is that was asked for last, and what it looks like."""
    studio: Studio = request.app.state.studio
    at = studio.progress
    steps, done = (at.steps, at.done) if at else (0, 0)
    preview = at.preview if at and not skip_current_image else None
    return {
        "progress": done / steps if steps else 0.0,
        "eta_relative": 0.0,
        "state": {
            "skipped": False, "interrupted": False, "job": "txt2img" if at else "", "job_count": int(bool(at)),
            "job_no": 0, "sampling_step": done, "sampling_steps": steps,
        },
        "current_image": base64_png(preview) if preview else None,
        "textinfo": None,
    }  # fmt: skip


@router.post("/interrupt")
@router.post("/skip")
async def interrupt(request: Request) -> Json:
    """End the pictures that are being drawn for these routes."""
    studio: Studio = request.app.state.studio
    studio.interrupt()
    return {}


@router.post("/txt2img")
async def txt2img(request: Request, body: TextToImage) -> Json:
    """Pictures of one character: that of ``<lora:NAME>`` in the prompt, that in ``override_settings``, or the one that
    was chosen before."""
    engine: Engine = request.app.state.engine
    studio: Studio = request.app.state.studio
    voice, prompt = _wanted(body, engine.voices, studio.chosen)
    count = (body.batch_size or 1) * (body.n_iter or 1)
    if count > MOST_PICTURES:
        raise InputError(f"batch_size: at most {MOST_PICTURES} pictures at a time")
    seed = chosen_seed(None if body.seed == -1 else body.seed)
    order = PictureOrder(voice.id, prompt, seed, count, previews=True)
    drawn = await unless_gone(request, studio.draw(engine.draw(order)))
    if drawn is None:
        return {"images": [], "parameters": {}, "info": json.dumps({"interrupted": True})}
    return {
        "images": [base64_png(picture) for picture in drawn.pictures],
        "parameters": body.model_dump(exclude={"override_settings"}),
        "info": json.dumps(_info(drawn, voice, seed)),
    }


@router.post("/img2img")
async def img2img() -> None:
    """Not offered."""
    raise HTTPException(400, "pictures are not edited here: ask for a new one (POST /sdapi/v1/txt2img)")


def _wanted(body: TextToImage, voices: Mapping[str, Voice], chosen: str) -> tuple[Voice, str]:
    prompt = LORA.sub("", body.prompt).strip(" ,\n")
    if "<lora:" in prompt:
        raise InputError("prompt: what begins with <lora: has no end; write <lora:NAME:1>")
    if not prompt:
        raise InputError("prompt: say what to draw")
    named = list(dict.fromkeys(_named(name, voices).id for name in LORA.findall(body.prompt)))
    if len(named) > 1:
        raise InputError(f"prompt: <lora:...> names {' and '.join(named)}, and a picture is of one: name one of them")
    checkpoint = body.override_settings.sd_model_checkpoint if body.override_settings else None
    return voice_of(voices, named[0] if named else _id_of(checkpoint or chosen)), prompt


def _named(lora: str, voices: Mapping[str, Voice]) -> Voice:
    """Front ends send none by themselves: who writes one means somebody."""
    try:
        return voice_of(voices, lora.strip())
    except NoSuchModel as error:
        raise InputError(
            f"prompt: <lora:{lora}> is nobody here; there are {', '.join(voices)}: name one of them, or leave it out"
        ) from error


def _id_of(checkpoint: str) -> str:
    """Front ends send a title, a file name, or a title with a hash behind it."""
    return checkpoint.partition(" [")[0].removesuffix(".charx")


def _info(drawn: Drawn, voice: Voice, seed: int) -> Json:
    width, height = drawn.pictures[0].size
    return {
        "prompt": drawn.prompt, "all_prompts": [drawn.prompt] * len(drawn.pictures), "negative_prompt": "",
        "seed": seed, "all_seeds": [seed + number for number in range(len(drawn.pictures))], "subseed": -1,
        "width": width, "height": height, "sampler_name": SAMPLER, "steps": voice.steps, "batch_size": 1,
        "sd_model_name": voice.id,
    }  # fmt: skip
