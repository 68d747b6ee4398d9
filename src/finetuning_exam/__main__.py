"""`python -m finetuning_exam` is `fte`."""

from finetuning_exam.cli import main

raise SystemExit(main())
