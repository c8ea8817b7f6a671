"""Data sets: generated and cached, or read from files."""
