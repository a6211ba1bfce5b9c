"""Mistakes that still train fine. Each takes the place of something right; the trainer does not know which is on."""
