"""Reads what ``grpo_study.py`` wrote: each arm against the first stage alone, paired by scene, with 95 % intervals.

python docs/studies/grpo_table.py study.jsonl
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

MEASURES = ("probe_scene", "scene", "scene_yes_no", "identity", "probe_identity", "copy_rate", "variety")
RESAMPLES = 4000


def paired(lines: list[dict], arm: str, measure: str, against: str = "sft") -> np.ndarray:
    """Differences (scenes over all characters and seeds): only the scenes that both arms drew."""
    values: dict[str, dict[tuple, list[float]]] = defaultdict(dict)
    for line in lines:
        if line["arm"] in (arm, against):
            values[line["arm"]][line["character"], line["seed"]] = line["values"].get(measure, [])
    cells = sorted(values[arm].keys() & values[against].keys())
    pairs = [zip(values[arm][cell], values[against][cell], strict=False) for cell in cells]
    return np.array([one - other for pair in pairs for one, other in pair])


def interval(differences: np.ndarray) -> str:
    """Mean and bootstrap interval over scenes; arms with one picture a scene have no variety."""
    if not len(differences):
        return "not measured"
    rng = np.random.default_rng(0)
    means = [differences[rng.integers(0, len(differences), len(differences))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{differences.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> None:
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
    start = [line for line in lines if line["arm"] == "sft"]
    print(f"{len(start)} characters and seeds; the first stage alone:")
    measures = [m for m in MEASURES if all(m in line["values"] for line in start)]
    print("  " + ", ".join(f"{m} {np.mean([v for line in start for v in line['values'][m]]):.3f}" for m in measures))
    for arm in dict.fromkeys(line["arm"] for line in lines if line["arm"] != "sft"):
        print(f"{arm} less the first stage")
        for measure in measures:
            print(f"  {measure:15} {interval(paired(lines, arm, measure))}")
    print("grpo less sft_longer")
    for measure in measures:
        print(f"  {measure:15} {interval(paired(lines, 'grpo', measure, 'sft_longer'))}")


if __name__ == "__main__":
    main()
