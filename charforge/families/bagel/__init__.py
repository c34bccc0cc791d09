"""The unified model: one decoder with an understanding and a generation expert (BAGEL, arXiv 2505.14683)."""
