"""Expert Collapse Lab: a small Mixture-of-Experts model whose router you can watch collapse, and rescue."""

from moe_sim.config.events import Event
from moe_sim.config.knobs import KNOBS
from moe_sim.config.presets import PRESETS, Preset
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import History, StepRecord
from moe_sim.history.probe import Probe
from moe_sim.trainer.trainer import Trainer
from moe_sim.version import __version__

__all__ = [
    "KNOBS",
    "PRESETS",
    "Event",
    "History",
    "Preset",
    "Probe",
    "RunConfig",
    "StepRecord",
    "Trainer",
    "__version__",
]
