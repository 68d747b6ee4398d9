"""Fine-tune a model: `uv run train_model.py` is `fte train`."""

import sys

from finetuning_exam.cli import run_command

if __name__ == "__main__":
    raise SystemExit(run_command("train", sys.argv[1:]))
