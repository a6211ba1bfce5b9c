"""One visitor's session and everything that belongs to it."""
