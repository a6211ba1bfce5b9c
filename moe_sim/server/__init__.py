"""Endpoints and other parts of the server besides Streamlit's pages."""
