"""The network and its training, one optimizer step at a time."""

from moe_sim.config.knobs import live_changes
from moe_sim.history.probe import Probe
from moe_sim.tasks.catalogue import TASKS, make_task
from moe_sim.trainer.together import LARGEST_LOSS, advance
from moe_sim.trainer.trainer import EVALUATION_TOKENS, Trainer

__all__ = ["EVALUATION_TOKENS", "LARGEST_LOSS", "TASKS", "Probe", "Trainer", "advance", "live_changes", "make_task"]
