"""Settings: what a run is made of. Unknown keys are errors; the resolved copy is saved with the run.

- ``sections``: :class:`Settings` and its small sections; ``first_stage`` and ``second_stage`` hold the large ones.
  Every field carries its own description, which ``charforge settings`` and ``docs/reference/settings.md`` print.
- ``section``: what all sections share, and the mark :data:`Neutral` of settings that do not decide the result.
- ``presets``: preset files, which hold only what differs from the preset that they extend.
- ``reading``: preset, overrides of the character folder, assignments and options -> one checked :class:`Settings`.
- ``described``: every setting as a row with its key, type, limits, default and description.
"""

from charforge.settings.expansion import ExpandSettings, PromptSettings
from charforge.settings.first_stage import SftSettings
from charforge.settings.reading import (
    checked,
    deciding,
    given_settings,
    read_assignments,
    read_settings,
    settings_of_run,
    settings_toml,
)
from charforge.settings.second_stage import GrpoSettings, RewardSettings
from charforge.settings.section import NEUTRAL, Neutral
from charforge.settings.sections import (
    AdapterSettings,
    ChatSettings,
    EvaluationSettings,
    MemorySettings,
    OptimizerKind,
    PictureSettings,
    Settings,
    TrackingSettings,
)

__all__ = [
    "NEUTRAL",
    "AdapterSettings",
    "ChatSettings",
    "EvaluationSettings",
    "ExpandSettings",
    "GrpoSettings",
    "MemorySettings",
    "Neutral",
    "OptimizerKind",
    "PictureSettings",
    "PromptSettings",
    "RewardSettings",
    "Settings",
    "SftSettings",
    "TrackingSettings",
    "checked",
    "deciding",
    "given_settings",
    "read_assignments",
    "read_settings",
    "settings_of_run",
    "settings_toml",
]
