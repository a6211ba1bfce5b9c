"""Runs that train in the background while someone watches."""
