"""Showing what was asked for, by the base's own answers."""

from charforge.judges.reward import Reward

REWARD = Reward("scene", weight=0.75, scale_floor=0.02, compute=lambda evidence: evidence.scene)
