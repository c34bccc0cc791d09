"""Training: Unified-SFT, checkpoints, previews, and the run that strings them together."""
