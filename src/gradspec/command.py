"""The console command `gradspec`, also `python -m gradspec`; what it does is imported when it is asked for.

Each subcommand is one entry of `COMMANDS`. An exit status is one of pytest's: 0 if all is well, 1 if
something failed, or if nobody reads the output to its end, 2 if the run was interrupted, 3 after an error of
gradspec's own, 4 for a command line that is wrong.
"""

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple, NoReturn

from gradspec import __version__

USAGE_ERROR = 4
"""The exit status after a command line that is wrong."""

BROKEN_PIPE = 1
"""The exit status where nobody reads the output to its end, as of Python and pytest."""


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        help: What it does, in a line.
        function: Where its function is, as "module:name". The function takes the arguments that follow the
            name of the subcommand, `--help` among them, and returns the exit status.
    """

    help: str
    function: str


COMMANDS = {
    "verify": Command(
        "verify the gradients of a library, or of kernels of your own",
        "gradspec.properties.running.commands:verify",
    ),
    "time": Command(
        "verify ops, and time them beside the spec and other backends",
        "gradspec.timing.command:time_ops",
    ),
    "ops": Command(
        "list the ops, each with its arrays and keywords",
        "gradspec.properties.running.commands:print_ops",
    ),
    "laws": Command(
        "print the laws: what each asks, and what it does not see",
        "gradspec.properties.running.commands:print_laws",
    ),
}

EPILOG = """\
gradspec COMMAND --help says what a command takes. For example:

  gradspec verify --backend torch
  gradspec verify --backend my_kernels:backend --op silu --dtype float32"""


class Parser(ArgumentParser):
    """A parser that tells in one line what is wrong, and ends with pytest's exit status."""

    def error(self, message: str) -> NoReturn:
        """Print the message and end."""
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for, and return the exit status.

    Args:
        arguments: What follows `gradspec` on the command line; None for that of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _make_parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return USAGE_ERROR
    name, *others = arguments
    if not name.startswith("-") and name not in COMMANDS:
        near = get_close_matches(name, COMMANDS) or [*COMMANDS]
        parser.error(f"no such command as {name!r}; did you mean {' or '.join(near)}?")
    parser.parse_args([name])  # ends after --help and --version, and for other options
    module, _, function = COMMANDS[name].function.partition(":")
    try:
        status: int = getattr(import_module(module), function)(others)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads the output has closed it, as `| head` does. Python flushes once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return status


def _make_parser() -> Parser:
    parser = Parser(
        "gradspec",
        description="gradspec verifies and benchmarks the gradients of array libraries.",
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gradspec {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help)
    return parser
