"""Prose with underlined terms, notices, and escaping for Markdown."""
