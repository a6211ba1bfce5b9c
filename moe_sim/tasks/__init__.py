"""The tasks: synthetic topics and real text."""
