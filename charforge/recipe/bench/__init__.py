"""The frozen benchmark of the embedded base: exact answers, because the renderer knows what is in every picture."""
