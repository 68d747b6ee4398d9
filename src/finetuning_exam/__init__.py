"""Fine-tune a small language model on your own instructions, and make it sit an exam."""

__version__ = "0.1.0"
