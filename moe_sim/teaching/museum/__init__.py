"""The museum: mistakes that people have really made, each in a run that shows it."""
