"""A run on disk: what it is a run of, who works in it, how long it took, and what a folder of runs holds."""
