"""Run `fte` as `python -m finetuning_exam`."""

from finetuning_exam.cli import main

raise SystemExit(main())
