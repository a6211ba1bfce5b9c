"""The catalogue of terms."""

from __future__ import annotations

from moe_sim.teaching.terms.balance import TERMS as BALANCE
from moe_sim.teaching.terms.capacity import TERMS as CAPACITY
from moe_sim.teaching.terms.collapse import TERMS as COLLAPSE
from moe_sim.teaching.terms.data import TERMS as DATA
from moe_sim.teaching.terms.layer import TERMS as LAYER
from moe_sim.teaching.terms.learning import TERMS as LEARNING
from moe_sim.teaching.terms.measures import TERMS as MEASURES
from moe_sim.teaching.terms.mechanisms import TERMS as MECHANISMS
from moe_sim.teaching.terms.systems import TERMS as SYSTEMS
from moe_sim.teaching.terms.term import Term

TERMS: tuple[Term, ...] = (
    LAYER + MEASURES + COLLAPSE + BALANCE + MECHANISMS + CAPACITY + SYSTEMS + LEARNING + DATA
)  # fmt: skip
"""By subject, in learning order."""

_BY_NAME = {term.name: term for term in TERMS}


def by_name(name: str) -> Term:
    """Returns the term with this name.

    Raises:
        KeyError: if there is no such term.
    """
    return _BY_NAME[name]
