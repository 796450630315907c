"""The verdict before the times: a run of `gradspec verify`, in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

EXIT_OK, EXIT_FAILED, EXIT_NOTHING_TRIED = 0, 1, 5  # exit statuses of pytest; after others nothing is said

ADAPTER = "adapter"
"""What stands for an op where a backend's `from_numpy`, `to_numpy` and `vjp` are judged."""


@dataclass(frozen=True)
class Verification:
    """A run that has ended.

    Attributes:
        status: Its exit status.
        verdicts: By op "agrees", "lossy" or another severity that does not fail, "known to deviate",
            "declined", or "fails: wrong" with the severity of what fails.
        wrong: The ops that are wrong, and what else is of the backend as a whole.
    """

    status: int
    verdicts: dict[str, str]
    wrong: frozenset[str]

    @property
    def has_judged(self) -> bool:
        return self.status in (EXIT_OK, EXIT_FAILED) and bool(self.verdicts)

    def get_obstacle(self, op: str) -> str:
        """Return why an op may get no times; "" if it may."""
        if ADAPTER in self.wrong:
            return "what converts its arrays and differentiates is wrong, as said above"
        if op in self.wrong:
            return f"it is wrong, as said above ({self.verdicts[op]})"
        return "" if op in self.verdicts and self.verdicts[op] != "declined" else "it was not verified"


def verify(arguments: Sequence[str]) -> Verification:
    """Run `gradspec verify` with these arguments, which prints its report, and return the verdicts."""
    with TemporaryDirectory() as folder:
        matrix = Path(folder, "matrix.json")
        command = [sys.executable, "-m", "gradspec", "verify", *arguments, "--matrix", str(matrix)]
        status = subprocess.run(command, check=False).returncode
        entries = json.loads(matrix.read_text(encoding="utf-8"))["entries"] if matrix.exists() else []
    return summarize(status, entries)


def summarize(status: int, entries: Sequence[dict[str, Any]]) -> Verification:
    """Return what the entries of a matrix say of each op, whatever the backend: the spec is one, too."""
    verdicts: dict[str, str] = {}
    for entry in entries:
        verdict = _get_verdict(entry)
        verdicts[entry["op"]] = max(verdict, verdicts.get(entry["op"], "declined"), key=_rank)
    return Verification(status, verdicts, frozenset(op for op, v in verdicts.items() if _rank(v) == _WORST))


# What does not fail, the mildest first; which severities fail is for --fail-on to say.
_HARMLESS = ("declined", "agrees", "lossy", "lax", "unsafe", "edge", "raises", "wrong", "known to deviate")
_WORST = len(_HARMLESS)


def _rank(verdict: str) -> int:
    return _HARMLESS.index(verdict) if verdict in _HARMLESS else _WORST


def _get_verdict(entry: dict[str, Any]) -> str:
    match entry["outcome"]:
        case "passed":
            return str(entry["severity"] or "agrees")
        case "known":
            return "known to deviate"
        case "failed":
            return f"fails: {entry['severity'] or 'not tested'}"
        case _:
            return "declined"
