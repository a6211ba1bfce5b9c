"""Compute runs in this process or in worker processes."""
