"""Everything works without a network, and nothing tries to access one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tiny import Models, rows, write_rows

WITHOUT_SOCKETS = """
import json, socket, sys

attempts = []

def refuse(name):
    def refused(*args, **named):
        attempts.append(f"{name} {args[-1] if args else named}")
        raise OSError("no network in this test")
    return refused

socket.socket.connect = refuse("connect")
socket.socket.connect_ex = refuse("connect_ex")
socket.getaddrinfo = refuse("getaddrinfo")
socket.create_connection = refuse("create_connection")

from finetuning_exam.cli import main

model, data, prompts = sys.argv[1:]
codes = [
    main(["check", data, "--model", model]),
    main(["train", data, "--model", model, "--output_dir", "run", "--max_steps", "2",
          "--device", "cpu", "--max_new_tokens", "4", "--answered_examples", "4"]),
    main(["exam", prompts, "--adapter", "run", "--device", "cpu", "--max_new_tokens", "4"]),
    main(["compare", "What does the cat do?", "--adapter", "run", "--device", "cpu",
          "--max_new_tokens", "4"]),
]
import threading
for thread in threading.enumerate():  # telemetry would be sent from a thread
    if thread is not threading.main_thread() and not thread.daemon:
        thread.join(10)
print("RESULT " + json.dumps({"codes": codes, "attempts": attempts}))
"""


def test_no_command_needs_a_network(models: Models, tmp_path: Path) -> None:
    """With every socket refused, every command succeeds, and neither the command nor telemetry
    tries to open one, even though no offline mode is set.
    """
    data = write_rows(tmp_path / "rows.jsonl", rows(24))
    prompts = write_rows(tmp_path / "held_out.jsonl", rows(8))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SOCKETS, str(models.folder()), str(data), str(prompts)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    last = done.stdout.splitlines()[-1] if done.stdout else ""
    assert last.startswith("RESULT "), done.stderr[-2000:]
    assert json.loads(last.removeprefix("RESULT ")) == {"codes": [0, 0, 0, 0], "attempts": []}
