"""The smallest Streamlit page with one Plotly chart, for `python -m tests.bench page`."""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st

st.plotly_chart(go.Figure(go.Bar(x=list(range(1, 9)), y=[21, 1, 15, 3, 18, 4, 19, 18])))
