"""The parts of the page *Your model*."""
