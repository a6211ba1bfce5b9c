"""How to watch a model of one's own."""

from __future__ import annotations

import streamlit as st

CODE = """import moe_sim

with moe_sim.watch(model, "runs/first") as trace:
    for batch in loader:
        loss = model(**batch).loss
        loss.backward(); optimizer.step(); optimizer.zero_grad()
        trace.step(task_loss=loss.item())"""
COMMANDS = """streamlit run app.py -- --runs runs
python -m moe_sim trace show runs/first"""


def draw() -> None:
    """Shows the code and the commands."""
    st.markdown("**Watch your own model.** Any torch model; nothing else of your training changes:")
    st.code(CODE, language=None, wrap_lines=True)  # colours of a language have too little contrast
    st.markdown("This page then shows the folder while it grows, and a terminal has the verdict:")
    st.code(COMMANDS, language=None, wrap_lines=True)
    st.markdown(
        "`python -m moe_sim demo` trains two tiny models of transformers to try it. `python -m moe_sim trace import` "
        "reads what Megatron-LM, SGLang or vLLM have recorded, and plain tables."
    )
