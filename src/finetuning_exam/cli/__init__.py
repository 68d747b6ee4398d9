"""The command line: finds the command, runs it, and turns every error into one line and a code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, cast

from finetuning_exam.cli.out_of_memory import LESS_ANYWHERE
from finetuning_exam.cli.startup import prepare_process
from finetuning_exam.errors import DataError, DiskError, UsageError, UserError, is_out_of_memory
from finetuning_exam.training.interrupt import Terminated, termination_raised

if TYPE_CHECKING:
    from finetuning_exam.settings import CommonSettings

_PURPOSES = {
    "check": "Read data the way training will, and report every fault",
    "train": "Fine-tune a model on a file, then examine it",
    "compare": "Show the answers of base and tuned model side by side",
    "exam": "Examine an adapter against its base on a held-out file",
}
_DISK = (errno.ENOSPC, errno.EIO)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `fte COMMAND …` and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        from finetuning_exam import __version__

        print(f"fte {__version__}")
        return 0
    return run_command(arguments[0], arguments[1:])


def run_command(command: str, arguments: Sequence[str]) -> int:
    """Run one command; a user's mistake becomes one line on stderr and its exit code."""
    try:
        if command not in _PURPOSES:
            raise UsageError(
                f"fte has no command {command!r}.{_nearest(command)}", "See fte --help."
            )
        prepare_process(command)
        from finetuning_exam.cli.arguments import KINDS, Parsed, parse

        parsed = parse(KINDS[command], command, arguments)
        module = import_module(f"finetuning_exam.cli.{command}")
        with termination_raised():
            return cast("Callable[[Parsed[CommonSettings]], int]", module.run)(parsed)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        separator = "\n" if isinstance(error, DataError) and error.is_list else " "
        _print_error(f"fte {command}:{separator}{error}")
        return error.exit_code
    except OSError as error:  # a disk that is full, a folder that went away, no permission
        name = f"{error.filename}: " if error.filename else ""
        _print_error(f"fte {command}: {name}{error.strerror or error}.")
        return DiskError.exit_code if error.errno in _DISK else UsageError.exit_code
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _print_error(f"fte {command}: out of memory. {LESS_ANYWHERE}")
        return UsageError.exit_code
    except KeyboardInterrupt as error:
        print(f"\nfte {command}: stopped. {error}".rstrip(), file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def _print_error(text: str) -> None:
    from finetuning_exam.report.text import visible

    print(visible(text), file=sys.stderr)


def _usage() -> str:
    lines = "\n".join(f"  fte {name:<9}{text}" for name, text in _PURPOSES.items())
    return (
        "Fine-tune a small language model on your own instructions, and make it sit an exam.\n\n"
        f"{lines}\n\n"
        "With no arguments, fte train uses train.jsonl, the built-in base model and ./output.\n"
        "fte COMMAND --help lists the flags of a command."
    )


def _nearest(command: str) -> str:
    from difflib import get_close_matches

    found = get_close_matches(command, _PURPOSES, n=1)
    return f" Did you mean {found[0]}?" if found else ""
