"""The configuration of a run: `RunConfig`, the knobs as data, planned changes, presets, and their text form."""

from moe_sim.config.events import Event
from moe_sim.config.knob import Knob, knob
from moe_sim.config.knobs import KNOBS, THRESHOLDS
from moe_sim.config.presets import PRESETS, Preset
from moe_sim.config.run_config import BALANCING, CAPACITY, MAIN, NOISE, OPTIMIZER, TASK, RunConfig
from moe_sim.config.run_plan import RunPlan
from moe_sim.config.thresholds import Thresholds

__all__ = [
    "BALANCING",
    "CAPACITY",
    "KNOBS",
    "MAIN",
    "NOISE",
    "OPTIMIZER",
    "PRESETS",
    "TASK",
    "THRESHOLDS",
    "Event",
    "Knob",
    "Preset",
    "RunConfig",
    "RunPlan",
    "Thresholds",
    "knob",
]
