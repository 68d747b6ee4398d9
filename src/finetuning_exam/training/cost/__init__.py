"""Predicted cost of a run before its first step: memory and time."""
