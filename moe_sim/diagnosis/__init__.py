"""The state of a router: a verdict with evidence and advice."""

from moe_sim.diagnosis.verdict import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
