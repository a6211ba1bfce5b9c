"""What a run has done: one record per step, and the run as JSON or CSV."""

from moe_sim.config.events import Event
from moe_sim.history.column_meanings import COLUMN_MEANINGS
from moe_sim.history.columns import StepRecord
from moe_sim.history.from_json import run_from_json
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.history.to_json import run_to_json

__all__ = ["COLUMN_MEANINGS", "Event", "History", "Probe", "StepRecord", "run_from_json", "run_to_json"]
