"""From router logits to the experts that compute each token."""

from moe_sim.router.capacity import expert_capacity
from moe_sim.router.routing import Routing, Select, route, top_k_of_logits

__all__ = ["Routing", "Select", "expert_capacity", "route", "top_k_of_logits"]
