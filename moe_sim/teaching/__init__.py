"""What the teaching pages say, and how they check what a student did."""
