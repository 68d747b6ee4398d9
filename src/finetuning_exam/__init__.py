"""Fine-tune a small language model on your own instructions, and make it sit an exam."""

from importlib.metadata import version

__version__ = version("finetuning-exam")
