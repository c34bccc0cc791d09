"""Model families: each a folder of its own, behind one door (protocol.py)."""
