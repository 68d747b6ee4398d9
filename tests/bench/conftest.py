"""The files of bench/ import each other as scripts do; where the folder is not there (in a source
distribution), there is nothing to test.
"""

from __future__ import annotations

import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"
collect_ignore_glob = [] if BENCH.is_dir() else ["test_*.py"]
sys.path.append(str(BENCH))
