"""A failure as people read it: the smallest case, the law it breaks, and a script that reproduces it.

Each failure is written twice under `failures/`: as a script of less than 20 lines that needs only gradspec
and the backend, and as a JSON capsule for tools.
"""

import json
import platform
import re
import site
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gradspec.backends.loading import BUILT_IN
from gradspec.properties.cases.reproducible import ReprCase, ReproducibleCase
from gradspec.properties.judging.attempt import Law
from gradspec.properties.judging.error_descriptions import make_printable
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.judging.process_server import CrashOrTimeout
from gradspec.properties.running.files import write_atomically

__all__ = ["BackendLabel", "Law", "LawViolation", "ReprCase", "ReproducibleCase"]


@dataclass(frozen=True)
class BackendLabel:
    """The backend that fails: its name, where its arrays live, and the name to load it by."""

    name: str
    device: str
    source: str


class LawViolation(AssertionError):
    """A backend breaks a law on a case."""

    def __init__(self, law: Law, backend: BackendLabel, case: ReproducibleCase, judgement: Judgement) -> None:
        self.law, self.backend, self.case, self.judgement = law, backend, case, judgement
        super().__init__(self.as_text())

    # An isolated backend fails in a process of its own, from which its violation is sent pickled.
    def __reduce__(self) -> tuple[Any, ...]:
        return LawViolation, (self.law, self.backend, self.case, self.judgement)

    @property
    def title(self) -> str:
        place = f"{self.case.target_name} on {self.backend.name} ({self.backend.device})"
        breaks = "loses digits" if self.judgement.verdict == "lossy" else "breaks a law"
        return make_printable(f"{place} {breaks}: {self.law_sentence}")

    @property
    def law_sentence(self) -> str:
        """The law as a sentence."""
        return self.law.__name__.replace("_", " ")

    @property
    def signature(self) -> tuple[str, ...]:
        """What identical failures have in common: where it raised, else the op and which result is wrong."""
        first_line, *other_lines = self.judgement.reason.split("\n")
        frames = [line for line in other_lines if line.startswith("  at ")]
        if frames:  # the same line of the backend fails every op alike
            return self.backend.source, first_line, frames[-1]
        return self.backend.source, self.case.target_name, re.split(r" at \(| is | has ", first_line)[0]

    def as_text(self) -> str:
        reason = self.judgement.reason.split("\n")
        return "\n".join([self.title, *(f"  {line}" for line in (*self.case.as_lines(), *reason))])

    def as_script(self) -> str:
        """Return a script that checks the law on the case again and exits with 1 if it is still broken."""
        expression = self.case.as_python()
        call, home, limit = "judge_case_repeatedly", "judging.judge_repeatedly", ""
        backend, loader = f"load({self.backend.source!r})", ["from gradspec.backends import load"]
        if isinstance(self.judgement, CrashOrTimeout):
            call, home = "judge_case_in_own_process", "judging.own_process"
            backend, loader = repr(self.backend.source), []  # loaded in that process alone
            limit = f", seconds={self.judgement.time_limit:g}"
        head = [
            f'"""{_escape_for_docstring(self.title)}.',
            f'{_escape_for_docstring(self.judgement.reason.split(chr(10))[0])}."""',
            *_format_imports(self.backend.source, expression),
            *loader,
            f"from gradspec.properties.{home} import {call}",
            f"from {type(self.case).__module__} import {type(self.case).__name__}",
            f"from {self.law.__module__} import {self.law.__name__}",
            "",
        ]
        tail = [
            f"judgement = {call}({self.law.__name__}, {backend}, case{limit})",
            'print(judgement.verdict, judgement.reason, sep=": ")',
            f"raise SystemExit(judgement.verdict {self._describe_broken_verdicts()})",
        ]
        if len(head) + len(tail) + len(expression.split("\n")) > 19:
            expression = " ".join(line.strip() for line in expression.split("\n"))
        return "\n".join([*head, f"case = {expression}", *tail, ""])

    def _describe_broken_verdicts(self) -> str:
        """Return a comparison with the verdicts by which the law is still broken, as Python code."""
        return 'in ("disagree", "lossy")' if self.judgement.verdict == "lossy" else '== "disagree"'

    def as_capsule(self) -> dict[str, Any]:
        """Return all that is known about the failure, for tools."""
        return {
            "law": f"{self.law.__module__}:{self.law.__name__}",
            "backend": self.backend.source,
            "device": self.backend.device,
            "case": self.case.as_json(),
            "verdict": self.judgement.verdict,
            "reason": self.judgement.reason,
            "worst": repr(self.judgement.worst),
            "versions": collect_versions(),
        }

    def save(self, folder: Path, name_suffix: str = "") -> Path:
        """Write script and capsule, each whole or not at all, and return the path of the script.

        The arguments are those of `format_files`.

        Raises:
            OSError: They cannot be written.
        """
        files = self.format_files(folder, name_suffix)
        for path, text in files.items():
            write_atomically(path, text)
        return [*files][-1]

    def format_files(self, folder: Path, name_suffix: str = "") -> dict[Path, str]:
        """Return the texts of capsule and script, by path.

        Args:
            folder: Where to write them.
            name_suffix: What the file names end with, after law, op and backend.
        """
        parts = (self.law.__name__, self.case.target_name, self.backend.name, name_suffix)
        name = re.sub(r"[^\w.-]+", "-", "-".join(filter(None, parts)))
        return {
            folder / f"{name}.json": json.dumps(self.as_capsule(), indent=2, default=repr) + "\n",
            folder / f"{name}.py": self.as_script(),
        }


def _format_imports(source: str, expression: str) -> list[str]:
    """Return the import lines that a script needs to load the backend and to write the values of its case."""
    values = [name for name in ("inf", "nan") if re.search(rf"\b{name}\b", expression)]
    home = _find_import_folder(source)
    return [
        *([f"import sys; sys.path.insert(0, {home!r})"] if home else []),
        *([f"from math import {', '.join(values)}"] if values else []),
        *(["import numpy as np"] if "np." in expression else []),
    ]


def _find_import_folder(source: str) -> str | None:
    """Return the folder that the backend's module is imported from, None if it is installed."""
    if ":" not in source or source in BUILT_IN:
        return None
    try:
        module = find_spec(source.split(":")[0].split(".")[0])  # not imported here: it may do anything
    except ValueError:
        return None
    if module is None:
        return None
    folders = [*(module.submodule_search_locations or ())] or ([module.origin] if module.origin else [])
    if not folders:
        return None
    folder = Path(folders[0]).parent
    return None if str(folder) in site.getsitepackages() else str(folder.resolve())


def _escape_for_docstring(text: str) -> str:
    """Return the text changed so that it can stand in a docstring."""
    return text.replace("\\", "\\\\").replace('"', "'").rstrip(".")


def collect_versions() -> dict[str, str]:
    """Return the versions that the failure was seen with."""
    installed = {d.name: d.version for d in metadata.distributions()}
    libraries = ("gradspec", "torch", "cupy-cuda13x", "jax", "hypothesis")
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "numpy": np.__version__,
    } | {name: installed[name] for name in libraries if name in installed}
