"""Checkpoints of a run: find, save, and restore them bit for bit."""
