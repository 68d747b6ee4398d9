"""Predict the memory and time that a run takes, before its first step."""
