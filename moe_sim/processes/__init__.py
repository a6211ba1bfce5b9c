"""Child processes for whatever computes, forked from one that has loaded torch."""
