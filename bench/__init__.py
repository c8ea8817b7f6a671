"""What people run: `python -m bench.<name>`."""
