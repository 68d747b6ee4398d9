"""Scores, generated answers, statistics, and the exam made of them."""
