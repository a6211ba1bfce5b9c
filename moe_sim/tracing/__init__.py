"""Watches the routing of any torch model, and reads what other tools have recorded."""
