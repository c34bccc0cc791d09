"""How fast and how large: a base of random weights on this machine, through the real steps of training."""
