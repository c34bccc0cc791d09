"""``curves.png`` and ``reward_curves.png``: the curves of a run as pictures."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from charforge.run.metrics import Line, of_kind


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def reward_curves(lines: list[Line]) -> bytes | None:
    """Reward parts and held-out judgements over iterations as a PNG; None without a second stage."""
    steps, held = of_kind(lines, "grpo"), of_kind(lines, "scenes")
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


def loss_curves(lines: list[Line]) -> bytes:
    """Training and held-out losses over steps as a PNG."""
    steps, judged = of_kind(lines, "step"), of_kind(lines, "held_out")
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axis, key, title in zip(figure.subplots(1, 2), ("ce", "mse"), ("text (cross-entropy)", "pictures (flow error)"), strict=True):  # fmt: skip
        axis.plot([s["step"] for s in steps], [s[key] for s in steps], color="#9bb", linewidth=0.8, label="training")
        known = [j for j in judged if j[key] is not None]
        axis.plot([j["step"] for j in known], [j[key] for j in known], "o-", color="#c33", label="held out")
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.legend()
    return _png(figure)
