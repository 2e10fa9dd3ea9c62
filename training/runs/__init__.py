"""Training: the loop, its data feed, checkpoints and the folder of a run."""
