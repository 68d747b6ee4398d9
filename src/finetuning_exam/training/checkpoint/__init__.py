"""Checkpoints of a run: found, written, kept and restored bit for bit."""
