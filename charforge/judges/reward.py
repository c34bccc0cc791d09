"""What a reward is: see ``rewards/`` for those there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from charforge.judges.evidence import Evidence
from charforge.judges.needs import Need


@dataclass(frozen=True)
class Reward:
    """One part of what a picture is paid for.

    ``weight`` is the default of the setting ``reward.NAME``. ``compute`` gives (rows,) on the CPU, one value a picture.
    Its values count in units of their spread inside groups, of ``scale_floor`` at least: a part whose siblings hardly
    differ would otherwise be blown up to pure noise.
    """

    name: str
    weight: float
    scale_floor: float
    compute: Callable[[Evidence], Tensor]
    needs: tuple[Need, ...] = ()
