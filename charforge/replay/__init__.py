"""What a base draws and says itself, kept for all characters that are trained on it."""
