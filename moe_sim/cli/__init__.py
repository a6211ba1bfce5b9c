"""The command line, `python -m moe_sim`."""
