"""The subcommands of `gradspec` that run or read the properties.

Only `pytest` and the standard library are imported at the top: the plugin sets how many threads there may be
before NumPy is imported.
"""

from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence

import pytest

from gradspec.command import Parser

VERIFY_ARGUMENTS = ("-p", "gradspec.properties.plugin", "--pyargs", "gradspec.properties")
"""What `gradspec verify` calls pytest with, before its own arguments."""

VERIFY_HELP = """\
Verify backends against the spec, each op and each law, and print what disagrees, smallest case first.
Without --backend that is every backend that can run here; one of your own is named as module:attribute.
The run is one of pytest, and takes every option of pytest, its plugins and Hypothesis, too."""

VERIFY_EPILOG = """\
options of pytest and Hypothesis that are often of use:
  --hypothesis-profile quick  2 examples of each property instead of 9; deep: 50
  --hypothesis-seed N         draw the same cases as another run with this seed
  -n N                        use N processes (pytest-xdist)
  -k WORD                     only properties with this word in their names, such as gradient
  -x                          end at the first failure

exit status: 0 if all agree, 1 if something disagrees, 2 after Ctrl-C, 4 if an option is wrong,
5 if nothing was tried"""


def verify(arguments: Sequence[str]) -> int:
    """Run the properties, as `pytest -p gradspec.properties.plugin --pyargs gradspec.properties` does.

    Args:
        arguments: Those of pytest, gradspec's options among them.

    Returns:
        The exit status of pytest.
    """
    if {"-h", "--help"}.intersection(arguments):
        print(_format_verify_help(), end="")
        return 0
    return int(pytest.main([*VERIFY_ARGUMENTS, *arguments]))


def _format_verify_help() -> str:
    from gradspec.properties.running.options import add_options

    parser = Parser(
        "gradspec verify",
        usage="gradspec verify [options] [options of pytest]",
        description=VERIFY_HELP,
        epilog=VERIFY_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        add_help=False,
    )
    add_options(parser.add_argument_group("options of gradspec").add_argument)
    return parser.format_help()


def print_ops(arguments: Sequence[str]) -> int:
    """Print the ops of the spec, and how each is called."""
    parser = Parser(
        "gradspec ops",
        description="List the ops: the name, which --op takes, the arrays and, after a star, the keywords.",
    )
    parser.parse_args(arguments)
    from gradspec.properties.running.list_ops import format_ops

    print(format_ops())
    return 0


def print_laws(arguments: Sequence[str]) -> int:
    """Print all laws, as `gradspec verify --laws` does."""
    from gradspec.properties.running.list_laws import format_laws

    parser = Parser(
        "gradspec laws",
        description="Print what each law asks, what it does not see, and a fault that it alone catches.",
    )
    parser.parse_args(arguments)
    print(format_laws())
    return 0
