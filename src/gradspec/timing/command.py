"""The command `gradspec time`: the verdict on ops of a backend, and after it how fast they are."""

# ruff: noqa: E402 - the thread counts must be set before NumPy and torch are imported
from gradspec.timing.one_thread import describe_thread_counts, set_thread_counts

set_thread_counts()

import json
import platform
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from gradspec.backends import Backend, load
from gradspec.backends.backend import DTYPES
from gradspec.command import Parser
from gradspec.properties.judging.error_descriptions import get_message_line, make_printable
from gradspec.properties.running.files import describe_unwritten, write_atomically
from gradspec.reference import OPS, Op
from gradspec.timing import report
from gradspec.timing.calls import SIZES
from gradspec.timing.cells import SPEC, Cell, NotTimed, Side, TimedCall
from gradspec.timing.verification import EXIT_FAILED, EXIT_NOTHING_TRIED, EXIT_OK, Verification, verify

EXIT_INTERRUPTED = 2
DEFAULT_SECONDS = 0.5
PREFERRED_DTYPE = "float32"
PROG = "gradspec time"
PROGRAMS = "programs"  # what `gradspec verify` takes as an op besides ops

HELP = """\
Verify ops of a backend as `gradspec verify` does, and time those that are right: forward and backward, at
three sizes, beside the spec and other backends. What fails gets no time; what is lossy does."""

EPILOG = """\
Every other option is one of `gradspec verify`, such as --fail-on, --hypothesis-profile and -n.

exit status: 0 if the ops of the backend were timed, 1 if one was not, 2 after Ctrl-C, 4 if an option is
wrong, 5 if there was no op to time"""


def time_ops(arguments: Sequence[str]) -> int:
    """Verify and time what the arguments of `gradspec time` ask for, and return the exit status."""
    parser = _make_parser()
    options, others = parser.parse_known_args(arguments)
    if not options.seconds > 0:
        parser.error(f"--seconds {options.seconds:g}: it must be above 0")
    if PROGRAMS in options.op:
        parser.error(f"--op {PROGRAMS}: they are verified, and have no times")
    here = str(Path.cwd())
    if any(":" in name for name in (options.backend, *options.against)) and here not in sys.path:
        sys.path.insert(0, here)  # as `gradspec verify` does
    against = [_load(parser, "--against", name) for name in options.against]
    try:
        verification = verify(_list_verify_arguments(options, others))
        if not verification.has_judged:
            if verification.status in (EXIT_OK, EXIT_NOTHING_TRIED):
                what = ", ".join(options.op) or "any op"
                print(make_printable(f"{PROG}: {options.backend} does not offer {what}"), file=sys.stderr)
                return EXIT_NOTHING_TRIED
            return verification.status
        backend = _load(parser, "--backend", options.backend)
        return _Run(parser, options, verification, backend, against).time_all()
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _make_parser() -> Parser:
    parser = Parser(
        PROG,
        usage=f"{PROG} --backend NAME [--op NAME] [--against NAME] [options]",
        description=HELP,
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME"}
    parser.add_argument("--backend", metavar="NAME", required=True, help="by name or module:attribute")
    parser.add_argument("--op", **several, help="an op to time (default: all of the backend); repeatable")
    parser.add_argument("--against", **several, help="another backend to compare with; repeatable")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help=f"verify and time this one alone (default: verify all dtypes, time {PREFERRED_DTYPE})",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=DEFAULT_SECONDS,
        help="how long to measure each pass at each size (default: %(default)g)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the times as JSON")
    return parser


def _list_verify_arguments(options: Namespace, others: Sequence[str]) -> list[str]:
    """Return what `gradspec verify` is called with."""
    ops = [argument for op in options.op for argument in ("--op", op)]
    dtype = ["--dtype", options.dtype] if options.dtype else []
    return ["--backend", options.backend, *ops, *dtype, *others]


def _load(parser: Parser, option: str, name: str) -> Backend:
    """Return a backend; end with a line where there is none."""
    try:
        return load(name)
    except Exception as error:
        message = get_message_line(error).removeprefix(f"{name}: ")
        parser.error(make_printable(f"{option} {name}: {message or type(error).__name__}"))


class _Run:
    """What is timed once it has been verified."""

    def __init__(
        self,
        parser: Parser,
        options: Namespace,
        verification: Verification,
        backend: Backend,
        against: Sequence[Backend],
    ) -> None:
        self.options, self.verification = options, verification
        self.backend = backend
        self.console = Console(width=max(Console().width, report.MIN_WIDTH))
        self.dtype = options.dtype or _choose_dtype(backend)
        for name, other in zip(options.against, against, strict=True):
            if self.dtype not in other.dtypes:
                offered = ", ".join(d for d in DTYPES if d in other.dtypes)
                parser.error(f"--against {name}: it is not verified in {self.dtype}, but in {offered}")
        self.sides = _label_sides([backend, *against])
        self.cells: list[Cell] = []
        self.not_timed: dict[str, str] = {}
        self.not_compared: dict[str, str] = {}

    def time_all(self) -> int:
        """Print a table for each op and, at the end, what got no times; return the exit status."""
        for address in self.verification.verdicts:
            if address in OPS:  # else what is verified of the backend as a whole
                self._time_op(OPS[address])
        if self.cells:
            self.console.print(Text(report.LEGEND, "dim"))
        for title, reasons in ("not compared", self.not_compared), ("not timed", self.not_timed):
            for what, reason in reasons.items():
                self._tell(title, what, reason)
        is_written = not self.options.json or self._write_json()
        return EXIT_FAILED if self.not_timed or self.verification.status or not is_written else EXIT_OK

    def _time_op(self, op: Op) -> None:
        name, ours = op.address, f"{op.address} of {self.backend.name}"
        if obstacle := self.verification.get_obstacle(name):
            self.not_timed[ours] = obstacle
            return
        sides = [side for side in self.sides if side.offers(op)]
        for side in self.sides[1:]:
            if side not in sides:
                self.not_compared[f"{name} of {side.label}"] = "it does not offer this op"
        cells: list[Cell] = []
        for size in SIZES:
            try:
                call = TimedCall(op, size, self.dtype, sides)
            except NotTimed as reason:
                self.not_timed[ours] = str(reason)
                continue
            self.not_compared |= {f"{name} of {label}": text for label, text in call.complaints.items()}
            cells += [call.measure(direction, self.options.seconds) for direction in call.directions]
        self.cells += cells
        if cells:
            verdict = self.verification.verdicts[name]
            title = f"{ours} in {self.dtype}, {describe_thread_counts()}; verdict: {verdict}"
            others = [side.label for side in self.sides[1:]]
            self.console.print(report.make_table(cells, others, make_printable(title)))

    def _write_json(self) -> bool:
        """Write the file; return whether that was possible."""
        results = {
            "backend": self.backend.name,
            "device": self.backend.device,
            "dtype": self.dtype,
            "threads": describe_thread_counts(),
            "verdicts": self.verification.verdicts,
            "cells": list(map(report.cell_as_json, self.cells)),
            "not_timed": self.not_timed,
            "not_compared": self.not_compared,
            "platform": platform.platform(),
            "versions": report.collect_versions("torch", "cupy", "jax"),
        }
        try:
            write_atomically(self.options.json, json.dumps(results, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            self._tell("error", str(self.options.json), describe_unwritten("it", error))
            return False
        return True

    def _tell(self, title: str, what: str, text: str) -> None:
        line = Text.assemble(
            (f"{title}  ", "yellow"), (make_printable(what), "bold"), f": {make_printable(text)}"
        )
        self.console.print(line, soft_wrap=True, highlight=False)


def _choose_dtype(backend: Backend) -> str:
    if PREFERRED_DTYPE in backend.dtypes:
        return PREFERRED_DTYPE
    return next(dtype for dtype in DTYPES if dtype in backend.dtypes)


def _label_sides(backends: Sequence[Backend]) -> list[Side]:
    """Return the side under test, the spec, and the others, each under a name of its own."""
    sides: list[Side] = []
    for backend in backends:
        label = backend.name
        while label in (SPEC, *(side.label for side in sides)):
            label += " again"
        sides.append(Side(label, backend))
    return [sides[0], Side(SPEC, None), *sides[1:]]
