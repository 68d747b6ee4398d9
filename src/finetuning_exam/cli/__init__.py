"""The command line: find the command, run it, and turn every error into a line and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence

from finetuning_exam.cli.help import command_help, overview
from finetuning_exam.cli.registry import COMMANDS
from finetuning_exam.cli.startup import prepare_process
from finetuning_exam.errors import DataError, DiskError, UsageError, UserError, is_out_of_memory
from finetuning_exam.training.interrupt import Terminated, termination_raised

_DISK = (errno.ENOSPC, errno.EIO)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `fte COMMAND …` and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        from finetuning_exam import __version__

        print(f"fte {__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        _print_error(
            f"fte: unknown command {arguments[0]!r}.{_nearest(arguments[0])} See fte --help."
        )
        return UsageError.exit_code
    return run_command(arguments[0], arguments[1:])


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Run one command; a user's mistake becomes one line on stderr and its exit code."""
    try:
        return _run(name, arguments)
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        separator = "\n" if isinstance(error, DataError) and error.is_list else " "
        _print_error(f"fte {name}:{separator}{error}")
        return error.exit_code
    except OSError as error:  # a full disk, a folder that is gone, no permission
        place = f"{error.filename}: " if error.filename else ""
        _print_error(f"fte {name}: {place}{error.strerror or error}.")
        return DiskError.exit_code if error.errno in _DISK else UsageError.exit_code
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        from finetuning_exam.api.out_of_memory import LESS_ANYWHERE

        _print_error(f"fte {name}: out of memory. {LESS_ANYWHERE}")
        return UsageError.exit_code
    except KeyboardInterrupt as error:
        print(f"\nfte {name}: stopped. {error}".rstrip(), file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def _run(name: str, arguments: Sequence[str]) -> int:
    from finetuning_exam.cli.arguments import asks_for_help, parse

    command = COMMANDS[name]
    if asks_for_help(arguments):
        print(command_help(command), flush=True)
        return 0
    prepare_process(command)
    parsed = parse(command.settings, name, arguments)
    with termination_raised():
        return command.run(parsed)


def _print_error(text: str) -> None:
    from finetuning_exam.report.text import visible

    print(visible(text), file=sys.stderr)


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, COMMANDS, n=1)
    return f" Did you mean {found[0]}?" if found else ""
