"""Bases: finding, fetching and loading the models that characters are trained on."""
