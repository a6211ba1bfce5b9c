"""Runners, which compute runs in this process or in worker processes."""
