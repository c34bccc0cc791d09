"""Whether a character that is asked for a picture plans the picture that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from charforge import grammar
from charforge.chat.replies import sample_replies
from charforge.expand.pairs import Pair
from charforge.families.protocol import UnifiedModel
from charforge.settings import ChatSettings

SEED = 70_000
ROWS = 16
"""Requests answered side by side."""


def held_out_requests(pairs: Sequence[Pair]) -> list[Pair]:
    """The requests for pictures that no step has seen; those edited into another form cannot be measured."""
    found = [pair for pair in pairs if pair.split == "held_out" and pair.task == "roleplay_request"]
    form = ["system", "user", "assistant"]
    return [p for p in found if [getattr(part, "role", "picture") for part in p.parts] == form and asked_for(p)]


def asked_for(pair: Pair) -> list[str]:
    """The details that the user names and the pair's own plan repeats."""
    line, plan = pair.texts("user")[-1], grammar.split_plan(pair.texts("assistant")[-1])[1] or ""
    return [detail for detail in plan.split(", ") if detail in line]


def share_planned(pair: Pair, reply: str) -> float:
    """Which share of the details that ``pair`` asks for is in the plan of ``reply``; 0 without a plan."""
    plan = grammar.split_plan(reply)[1] or ""
    return float(np.mean([detail in plan for detail in asked_for(pair)]))


def request_replies(model: UnifiedModel, requests: Sequence[Pair], settings: ChatSettings) -> list[str]:
    """A reply to each request, sampled as in chat, with fixed seeds."""
    replies: list[str] = []
    for start in range(0, len(requests), ROWS):
        rows = requests[start : start + ROWS]
        conversations = [
            [model.text(pair.texts("system")[0], "system"), model.text(pair.texts("user")[0], "user")] for pair in rows
        ]
        replies += sample_replies(model, conversations, settings, SEED + start)
    return replies


def request_values(model: UnifiedModel, requests: Sequence[Pair], settings: ChatSettings) -> np.ndarray:
    """(requests,): :func:`share_planned` of :func:`request_replies`."""
    replies = request_replies(model, requests, settings)
    return np.array([share_planned(pair, reply) for pair, reply in zip(requests, replies, strict=True)])
