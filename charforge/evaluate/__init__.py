"""What an adapter changed, in figures."""
