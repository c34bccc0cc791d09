"""``report.html``: curves, previews and replies of a run in one self-contained page."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment
from matplotlib.figure import Figure

from charforge.character import Character
from charforge.files import write_atomic
from charforge.settings import Settings

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{{ name }}: training report</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
img{max-width:100%}table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
</style><h1>{{ name }}</h1><p>{{ class_noun }}, trained on {{ settings.base }} for {{ settings.sft.steps }} steps, seed {{ settings.seed }}.</p>
{% if images.before_after %}<h2>Before and after</h2><p>Upper row without the adapter, lower row with it; same prompts, same seeds.</p>
<img alt="before and after" src="{{ images.before_after }}">
<h2>Replies</h2><table><tr><th>question</th><th>without</th><th>with the adapter</th></tr>
{% for question, off, on in replies %}<tr><td>{{ question }}</td><td>{{ off }}</td><td>{{ on }}</td></tr>{% endfor %}</table>{% else %}<p>Measuring failed: run the same command again to repeat it.</p>{% endif %}
<h2>Measured</h2><table><tr><th></th><th>before</th><th>after</th><th>better</th></tr>
{% for what, before, after, better in compared %}<tr><td>{{ what }}</td><td>{{ before }}</td><td>{{ after }}</td><td>{{ better }}</td></tr>{% endfor %}</table>
<p>{{ facts|join("; ") }}.</p>
<h2>First stage: Unified-SFT</h2><img alt="loss curves" src="{{ images.curves }}">
{% if images.second %}<h2>Second stage: Character-GRPO</h2><p>Left: the parts of the reward on training scenes. Right: held-out scenes, drawn
as you draw; the dashed line is the reward's own opinion, the full one that of questions it never asks. Where the first rises and the second falls, the reward is being gamed.</p>
<img alt="reward curves" src="{{ images.second }}">{% endif %}
{% if previews %}<h2>Previews</h2>{% for step, image in previews %}<p>{{ step }}</p><img alt="preview, {{ step }}" src="{{ image }}">{% endfor %}{% endif %}
</html>"""


COMPARED = (
    ("held-out dialogues: perplexity", "held_out_perplexity_off", "held_out_perplexity_on", "lower"),
    ("asked for a picture: how much of what was asked is in the reply's plan", "held_out_requests_off", "held_out_requests_on", "higher"),
    ("held-out picture: flow error", "held_out_image_loss_off", "held_out_image_loss_on", "lower"),
    ("second stage, new scenes: what questions that the reward never asks see of them", "scenes_gold_before", "scenes_gold_after", "higher"),
    ("second stage, new scenes: what the reward's own questions see", "scenes_proxy_before", "scenes_proxy_after", "higher"),
    ("second stage, new scenes: likeness to an encoder that the reward does not use", "scenes_gold_identity_before", "scenes_gold_identity_after", "higher"),
    ("second stage, new scenes: likeness to the reward's encoder", "scenes_identity_before", "scenes_identity_after", "higher"),
    ("second stage, new scenes: share of copies of training pictures", "scenes_copy_rate_before", "scenes_copy_rate_after", "lower"),
)  # fmt: skip
"""What the report compares: in words, the two metrics, which direction is better."""


def compared(metrics: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The rows of the report's table that a run has figures for."""
    return [
        (what, f"{metrics[before]:.3f}", f"{metrics[after]:.3f}", better)
        for what, before, after, better in COMPARED
        if metrics.get(before) is not None and metrics.get(after) is not None
    ]


def facts(metrics: dict[str, Any]) -> list[str]:
    """What else is to be known of a run, in words."""
    told = [f"trained in {metrics['train_seconds'] / 60:.1f} minutes"]
    if metrics.get("peak_memory_gib") is not None:
        told.append(f"memory at most {metrics['peak_memory_gib']:.1f} GiB")
    told.append(f"kept step {metrics['best_step']} of the first stage")
    if "grpo_iterations" in metrics:
        ended, kept = metrics["grpo_ended"], metrics["grpo_best"]
        number = metrics["grpo_iterations"]
        told.append(f"second stage: {number} iteration{'' if number == 1 else 's'}, kept number {kept}, ended: {ended}")
    return told


def write_report(
    run: Path, character: Character, settings: Settings, metrics: dict[str, Any], measured: bool = True
) -> None:
    """Write ``curves.png``, ``reward_curves.png`` after a second stage, and ``report.html`` into the run folder.

    Without ``measured`` the pictures and replies that lie there are of an earlier stage, and are left out.
    """
    curves, second = _curves(run), _reward_curves(run)
    write_atomic(run / "curves.png", curves)
    if second:
        write_atomic(run / "reward_curves.png", second)
    nothing: dict[str, list[str]] = {"questions": [], "off": [], "on": []}
    told = json.loads((run / "replies.json").read_text("utf-8")) if measured else nothing
    page = Environment(autoescape=True).from_string(PAGE)
    html = page.render(
        name=character.name,
        class_noun=character.class_noun,
        settings=settings,
        compared=compared(metrics),
        facts=facts(metrics),
        replies=list(zip(told["questions"], told["off"], told["on"], strict=True)),
        images={
            "before_after": _inline((run / "before_after.png").read_bytes()) if measured else "",
            "curves": _inline(curves),
            "second": _inline(second) if second else "",
        },
        previews=[(_preview_name(f.stem), _inline(f.read_bytes())) for f in sorted((run / "previews").glob("*.png"))],
    )
    write_atomic(run / "report.html", html)


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _preview_name(stem: str) -> str:
    stage, _, number = stem.rpartition("-")
    return f"second stage, iteration {int(number)}" if stage else f"first stage, step {int(number)}"


def _lines(run: Path, kind: str, key: str) -> list[dict[str, Any]]:
    """The metrics of one kind. A run that was continued repeats what came after its checkpoint: the later counts."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return list({line[key]: line for line in lines if line["kind"] == kind}.values())


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _reward_curves(run: Path) -> bytes | None:
    """Reward parts and held-out judgements over iterations as a PNG; None without a second stage."""
    steps, held = _lines(run, "grpo", "iteration"), _lines(run, "scenes", "iteration")
    if not steps:
        return None
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in steps[0]["parts"]:
        left.plot([s["iteration"] for s in steps], [s["parts"][name] for s in steps], marker=".", label=name)
    when = [line["iteration"] for line in held]
    judges = (("proxy", "reward's questions", "--"), ("gold", "other questions", "-"), ("identity", "identity", ":"))
    for name, label, style in judges:
        right.plot(when, [line[name] for line in held], style, marker="o", label=label)
    for axis, title in ((left, "reward on training scenes"), (right, "held-out scenes")):
        axis.set_title(title)
        axis.set_xlabel("iteration")
        axis.legend()
    return _png(figure)


def _curves(run: Path) -> bytes:
    """Training and held-out losses over steps as a PNG."""
    steps, judged = _lines(run, "step", "step"), _lines(run, "held_out", "step")
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axis, key, title in zip(figure.subplots(1, 2), ("ce", "mse"), ("text (cross-entropy)", "pictures (flow error)"), strict=True):  # fmt: skip
        axis.plot([s["step"] for s in steps], [s[key] for s in steps], color="#9bb", linewidth=0.8, label="training")
        known = [j for j in judged if j[key] is not None]
        axis.plot([j["step"] for j in known], [j[key] for j in known], "o-", color="#c33", label="held out")
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.legend()
    return _png(figure)
