"""What is learned: synthetic topics, or real text."""
