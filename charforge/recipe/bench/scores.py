"""Scores of pictures: attributes by the probe, distance to renders in features of a frozen network."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from charforge.recipe.probe import Probe

Tally = dict[str, list[bool]]
"""Per attribute one entry a picture that has it."""


@torch.no_grad()
def read_attributes(probe: Probe, pictures: Tensor) -> list[dict[str, str]]:
    """What the probe sees in pictures (n, 3, 128, 128) in [-1, 1]: a value of every attribute it knows."""
    logits = probe(pictures)
    picked = {name: values.argmax(-1).tolist() for name, values in logits.items()}
    return [{name: probe.values[name][rows[row]] for name, rows in picked.items()} for row in range(len(pictures))]


def tally(found: list[dict[str, str]], asked: list[dict[str, str]]) -> Tally:
    """Right or wrong for each attribute that was asked for."""
    hits: Tally = {}
    for got, wanted in zip(found, asked, strict=True):
        for name, word in wanted.items():
            hits.setdefault(name, []).append(got[name] == word)
    return hits


def shares(hits: Tally) -> dict[str, float]:
    """Share of right ones by attribute."""
    return {name: round(sum(values) / len(values), 4) for name, values in sorted(hits.items())}


def mean_share(hits: Tally) -> float:
    """Mean over attributes, each counting alike."""
    by_name = [sum(values) / len(values) for values in hits.values()]
    return round(sum(by_name) / len(by_name), 4)


def chances(asked: list[dict[str, str]]) -> dict[str, float]:
    """What always naming the commonest value would score."""
    words: dict[str, Counter[str]] = {}
    for wanted in asked:
        for name, word in wanted.items():
            words.setdefault(name, Counter())[word] += 1
    return {name: round(max(found.values()) / found.total(), 4) for name, found in sorted(words.items())}


def frechet_distance(ours: Tensor, theirs: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features (n, width) (Heusel et al. 2017, here other features)."""
    first, second = ours.double(), theirs.double()
    one, two = torch.cov(first.T), torch.cov(second.T)
    values, vectors = torch.linalg.eigh(one)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ two @ root).clamp(min=0).sqrt().sum()
    distance = (first.mean(0) - second.mean(0)).pow(2).sum() + one.trace() + two.trace() - 2 * cross
    return round(float(distance), 4)
