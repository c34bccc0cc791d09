"""The rewards: one file and one row each.

A file holds a :class:`~charforge.judges.reward.Reward` with its name, which is also the setting of its weight
(``reward.NAME``), its default weight, the least scale of its part, what it needs, and how it is computed.
"""

from charforge.judges.reward import Reward
from charforge.judges.rewards import clip_text, copying, identity, scene, variety

REWARDS: tuple[Reward, ...] = (scene.REWARD, clip_text.REWARD, identity.REWARD, copying.REWARD, variety.REWARD)
