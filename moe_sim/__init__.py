"""Expert Collapse Lab: a small Mixture-of-Experts model whose router you can watch collapse, and rescue."""

from moe_sim.config import RunConfig
from moe_sim.history import Event, History, StepRecord
from moe_sim.knobs import KNOBS
from moe_sim.presets import PRESETS, Preset
from moe_sim.trainer import Probe, Trainer

__all__ = ["KNOBS", "PRESETS", "Event", "History", "Preset", "Probe", "RunConfig", "StepRecord", "Trainer"]
