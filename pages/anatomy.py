"""The parts of the load-balancing loss: set f and P by hand and see the terms, their sum and the gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from moe_sim.charts import anatomy as charts
from moe_sim.history.series import recent_mean
from moe_sim.router.capacity import expert_capacity
from moe_sim.server.messages import shown_layer
from moe_sim.teaching.loss_anatomy import EXAMPLES, Anatomy, contribution, dissect, resized
from pages.text import prose
from pages.visitor import hosting
from pages.visitor.session import current
from pages.visitor.theme import current_theme
from pages.visitor.widgets import number_in, one_of, whole_number_in

MOST_EXPERTS = 8
FIGURE_HEIGHT = 175
"""Pixels: sliders, charts and numbers fit on a projector."""
COEFFICIENTS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

hosting.stand_in_frame()
session = current()
level = session.view.level
theme = current_theme()
state = st.session_state


def _set(load: Any, importance: Any, top_k: int = 1, lesson: str = "") -> None:
    """Sets the sliders to f and P, in percent."""
    count = len(load)
    session.next_values |= {
        "anatomy_experts": count, "anatomy_shown": count, "anatomy_top_k": top_k, "anatomy_lesson": lesson,
    } | _percent("f", load) | _percent("P", importance)  # fmt: skip


def _percent(name: str, shares: Any) -> dict[str, float]:
    """The values of the sliders of f or P."""
    return {f"anatomy_{name}_{expert}": round(100 * float(share), 2) for expert, share in enumerate(shares)}


def _from_run() -> None:
    run = session.run.history
    history = run.layer(shown_layer(run, session.view.layer_index))
    load, importance = recent_mean(history, "load"), recent_mean(history, "importance")
    lesson = f"Means over the last 20 steps of your run, up to step {len(history)}."
    _set(load, importance, session.run.config.top_k, lesson)


def _resize(before: int, count: int) -> None:
    """Gives the sliders shares for another number of experts, before they are drawn."""
    for name in "fP":
        shown = [number_in(state.get(f"anatomy_{name}_{expert}"), 0.0, 100.0, 0.0) for expert in range(before)]
        if any(shown):
            state.update(_percent(name, resized(shown, count)))
    state["anatomy_shown"] = count


def _sliders(name: str, experts: int, words: str) -> np.ndarray:
    st.markdown(f"**{name}**, {words}")
    values = []
    for expert in range(experts):
        key = f"anatomy_{name}_{expert}"
        state.setdefault(key, round(100 / experts, 2))
        value = st.slider(f"{name} of {expert + 1}, %", 0.0, 100.0, step=0.01, key=key)
        values.append(number_in(value, 0.0, 100.0, 0.0))
    shares = np.array(values)
    return shares / shares.sum() if shares.sum() > 0 else np.full(experts, 1 / experts)


def _numbers(anatomy: Anatomy, top_k: int) -> None:
    cells = {
        "per choice": f"{anatomy.loss:.3f}", "huggingface": f"{anatomy.huggingface:.3f}",
        "CV² of P (importance loss)": f"{anatomy.importance_loss:.4f}", "CV² of f": f"{anatomy.load_cv_squared:.3f}",
        "max f / min f": "∞" if np.isinf(anatomy.imbalance_ratio) else f"{anatomy.imbalance_ratio:.1f}",
    }  # fmt: skip
    with st.container(horizontal=True, gap="small"):  # which wraps where it is narrow
        for label, value in cells.items():
            st.metric(label, value, width="content")
    st.caption(
        f"per choice: E·Σ f·P, which is 1 at balance. huggingface: f counts all choices / T, so the loss is k = "
        f"{top_k} times as large. first choice: f counts first choices only, so with k = 1 it equals per choice."
    )


def _figure(title: str, figure: Any) -> None:
    st.markdown(f"**{title}**")
    figure.update_layout(title=None, height=FIGURE_HEIGHT)
    st.plotly_chart(figure, key=f"anatomy-{title.split()[0]}", theme=None, config={"displayModeBar": False})


st.title("Anatomy of the load-balancing loss", anchor=False)
prose.show(
    ["L = E · Σ f·P. f is where tokens went, P is what the router prefers. Move both and watch the terms, their sum "
     "and the gradient. Shares are rescaled to total 100\u00a0%."], level,
)  # fmt: skip
with st.container(horizontal=True):
    for key, example in EXAMPLES.items():
        st.button(example.title, key=f"anatomy-example-{key}", on_click=_set,
                  args=(example.load, example.importance, 1, example.lesson))  # fmt: skip
    usable = len(session.run.history) > 0 and session.run.config.num_experts <= MOST_EXPERTS
    st.button("From your run", on_click=_from_run, disabled=not usable,
              help="Copies f and P from your run on the Live page. It needs at least one step and at most "
              f"{MOST_EXPERTS} experts.")  # fmt: skip
state.setdefault("anatomy_experts", 4)
state.setdefault("anatomy_top_k", 1)
with st.container(key="anatomy"):
    controls, pictures = st.columns([1, 1.6], gap="medium")
with controls:
    left, right = st.columns(2)
    with left:
        experts = whole_number_in(st.slider("Experts", 2, MOST_EXPERTS, key="anatomy_experts"), 2, MOST_EXPERTS, 4)
        if (before := state.setdefault("anatomy_shown", experts)) != experts:
            _resize(before, experts)
        load = _sliders("f", experts, "the load: shares of the token choices")
    with right:
        top_k = whole_number_in(st.slider("Top-k", 1, MOST_EXPERTS, key="anatomy_top_k"), 1, MOST_EXPERTS, 1)
        importance = _sliders("P", experts, "the importance: mean router probability")

anatomy = dissect(load, importance, min(top_k, experts))
with pictures, st.container(key="anatomy-charts"):
    _figure("f and P", charts.shares(load, importance, theme))
    left, right = st.columns(2)
    with left, st.container(key="anatomy-terms"):  # on a phone it stays in sight while the sliders scroll
        _figure(f"Terms E·f·P: they add up to {anatomy.loss:.3f}", charts.terms(anatomy, theme))
    with right:
        _figure("Gradient with respect to P: E·f. f has none", charts.gradient(anatomy, theme))
    if state.get("anatomy_lesson"):
        st.info(state["anatomy_lesson"])
    _numbers(anatomy, min(top_k, experts))

st.header("How large is its share of the total loss?", anchor=False)
task, balance, alpha = st.columns(3)
task_loss = number_in(task.slider("Task loss", 0.1, 10.0, 2.0, 0.1), 0.1, 10.0, 2.0)
balance_loss = number_in(balance.slider("Load-balancing loss", 0.0, 8.0, 1.0, 0.1), 0.0, 8.0, 1.0)
coefficient = one_of(alpha.select_slider("α", COEFFICIENTS, 0.01), COEFFICIENTS, 0.01)
share = contribution(task_loss=task_loss, balance_loss=balance_loss, alpha=coefficient)
prose.show(
    [f"α·L_balance = {coefficient:g} × {balance_loss:g} is {100 * share:.2g}\u00a0% of the total loss. What matters "
     "is the ratio of the gradients, not of the losses. The Router tab of the Live page shows it for your run."], level,
)  # fmt: skip

st.header("Capacity", anchor=False)
columns = st.columns(4)
tokens = whole_number_in(columns[0].number_input("Tokens T", 1, 100_000, 256), 1, 100_000, 256)
count = whole_number_in(columns[1].number_input("Experts E", 1, 1024, 8), 1, 1024, 8)
choices = whole_number_in(columns[2].number_input("Choices K", 1, 64, 1), 1, 64, 1)
factor = number_in(columns[3].number_input("Capacity factor", 0.05, 64.0, 1.0, 0.05), 0.05, 64.0, 1.0)
capacity = expert_capacity(tokens=tokens, num_experts=count, top_k=choices, capacity_factor=round(factor, 4))
busiest = min(float(load.max()) * tokens * choices, tokens)
prose.show(
    [f"C = ⌈{factor:g} × {tokens} × {choices} / {count}⌉ = {capacity} choices per expert. An expert that receives "
     f"{100 * float(load.max()):.3g}\u00a0% of the {tokens * choices} choices, like the busiest one above, gets "
     f"{busiest:.0f} and drops {max(0.0, busiest - capacity):.0f} of them."], level,
)  # fmt: skip
