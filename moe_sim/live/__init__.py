"""Runs that train in the background while somebody watches."""
