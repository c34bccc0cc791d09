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
<h2>Before and after</h2><p>Upper row without the adapter, lower row with it; same prompts, same seeds.</p>
<img alt="before and after" src="{{ images.before_after }}">
<h2>Replies</h2><table><tr><th>question</th><th>without</th><th>with the adapter</th></tr>
{% for question, off, on in replies %}<tr><td>{{ question }}</td><td>{{ off }}</td><td>{{ on }}</td></tr>{% endfor %}</table>
<h2>Measured</h2><table>{% for key, value in metrics.items() %}<tr><td>{{ key }}</td><td>{{ value }}</td></tr>{% endfor %}</table>
<h2>Curves</h2><img alt="loss curves" src="{{ images.curves }}">
{% if previews %}<h2>Previews</h2>{% for step, image in previews %}<p>step {{ step }}</p><img alt="preview at step {{ step }}" src="{{ image }}">{% endfor %}{% endif %}
</html>"""


def write_report(run: Path, character: Character, settings: Settings, metrics: dict[str, Any]) -> None:
    """Write ``curves.png`` and ``report.html`` into the run folder."""
    curves = _curves(run)
    write_atomic(run / "curves.png", curves)
    told = json.loads((run / "replies.json").read_text("utf-8"))
    page = Environment(autoescape=True).from_string(PAGE)
    html = page.render(
        name=character.name,
        class_noun=character.class_noun,
        settings=settings,
        metrics=metrics,
        replies=list(zip(told["questions"], told["off"], told["on"], strict=True)),
        images={"before_after": _inline((run / "before_after.png").read_bytes()), "curves": _inline(curves)},
        previews=[(int(f.stem), _inline(f.read_bytes())) for f in sorted((run / "previews").glob("*.png"))],
    )
    write_atomic(run / "report.html", html)


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _curves(run: Path) -> bytes:
    """Training and held-out losses over steps as a PNG."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    # a run that was continued repeats the steps after its last checkpoint: the later line is the true one
    steps = list({line["step"]: line for line in lines if line["kind"] == "step"}.values())
    judged = list({line["step"]: line for line in lines if line["kind"] == "held_out"}.values())
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axis, key, title in zip(figure.subplots(1, 2), ("ce", "mse"), ("text (cross-entropy)", "pictures (flow error)"), strict=True):  # fmt: skip
        axis.plot([s["step"] for s in steps], [s[key] for s in steps], color="#9bb", linewidth=0.8, label="training")
        known = [j for j in judged if j[key] is not None]
        axis.plot([j["step"] for j in known], [j[key] for j in known], "o-", color="#c33", label="held out")
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
