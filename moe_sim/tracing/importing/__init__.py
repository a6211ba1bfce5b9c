"""Reads what other tools have recorded about routing."""
