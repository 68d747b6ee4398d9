"""Compare base and tuned model: `uv run infer_compare.py "a question"` is `fte compare`."""

import sys

from finetuning_exam.cli import run_command

if __name__ == "__main__":
    raise SystemExit(run_command("compare", sys.argv[1:]))
