"""The command line: find the command, run it, and turn every error into a line and an exit code."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable, Sequence

from finetuning_exam.cli.ending import (
    CLOSED_OUTPUT,
    discard_output,
    flush_output,
    print_error,
    show_cursor,
)
from finetuning_exam.cli.help import command_help, overview
from finetuning_exam.cli.registry import COMMANDS
from finetuning_exam.cli.startup import prepare_process
from finetuning_exam.errors import DataError, DiskError, UsageError, UserError, is_out_of_memory
from finetuning_exam.training.interrupt import Terminated, signals_raised

_DISK = (errno.ENOSPC, errno.EIO)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `fte COMMAND …` and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        return run_command(arguments[0], arguments[1:])
    return _guarded("fte", lambda: _without_command(arguments))


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Run one command; a user's mistake becomes one line on stderr and its exit code."""
    return _guarded(f"fte {name}", lambda: _run(name, arguments))


def _without_command(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        from finetuning_exam import __version__

        print(f"fte {__version__}")
        return 0
    print_error(f"fte: unknown command {arguments[0]!r}.{_nearest(arguments[0])} See fte --help.")
    return UsageError.exit_code


def _guarded(name: str, run: Callable[[], int]) -> int:
    """Run a command and return its exit code; every error that can be foreseen is one line."""
    try:
        with signals_raised(on_exit=show_cursor):
            code = run()
            flush_output()
            return code
    except BrokenPipeError:  # the reader of the output has closed it
        discard_output()
        print_error(f"{name}: stopped, because standard output was closed.")
        return CLOSED_OUTPUT
    except UserError as error:
        discard_output()
        separator = "\n" if isinstance(error, DataError) and error.is_list else " "
        print_error(f"{name}:{separator}{error}")
        return error.exit_code
    except OSError as error:  # a full disk, a folder that is gone, no permission
        of_output = "standard output: " if discard_output() else ""
        place = f"{error.filename}: " if error.filename else of_output
        print_error(f"{name}: {place}{error.strerror or error}.")
        return DiskError.exit_code if error.errno in _DISK else UsageError.exit_code
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        from finetuning_exam.api.out_of_memory import LESS_ANYWHERE

        discard_output()
        print_error(f"{name}: out of memory. {LESS_ANYWHERE}")
        return UsageError.exit_code
    except KeyboardInterrupt as error:
        discard_output()
        show_cursor()
        print_error(f"\n{name}: stopped. {error}".rstrip())
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def _run(name: str, arguments: Sequence[str]) -> int:
    from finetuning_exam.cli.arguments import asks_for_help, parse

    command = COMMANDS[name]
    if asks_for_help(arguments):
        print(command_help(command))
        return 0
    prepare_process(command)
    return command.run(parse(command.settings, name, arguments))


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, COMMANDS, n=1)
    return f" Did you mean {found[0]}?" if found else ""
