"""Texts of the teaching pages, and the checks of what a student did."""
