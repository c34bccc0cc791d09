"""Talking to a trained character."""
