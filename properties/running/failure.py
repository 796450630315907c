"""A failure as people read it: the smallest case, the law it breaks, and a script that reproduces it.

Each failure is written twice under `failures/`: as a script of less than 20 lines that needs only gradspec
and the backend, and as a JSON capsule for tools.
"""

import json
import platform
import re
import shlex
import shutil
import site
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
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
from gradspec.properties.judging.judgement import Severity
from gradspec.properties.judging.process_server import CrashOrTimeout
from gradspec.properties.judging.severity import classify_severity, explains, rank_severity
from gradspec.properties.judging.shown_cases import find_shown_case
from gradspec.properties.running.causes import identify_cause
from gradspec.properties.running.files import write_atomically

__all__ = ["BackendLabel", "Law", "LawViolation", "ReprCase", "ReproducibleCase"]


@dataclass(frozen=True)
class BackendLabel:
    """The backend that fails.

    Attributes:
        name: Its name.
        device: Where its arrays live.
        source: The name to load it by.
        expression: How a script makes it, where that takes more than to load it.
        setup: The lines of the script before that.
    """

    name: str
    device: str
    source: str
    expression: str = ""
    setup: tuple[str, ...] = ()


class LawViolation(AssertionError):
    """A backend breaks a law on a case.

    Attributes:
        law: The law.
        backend: The backend.
        case: The case.
        judgement: What the law says of it.
        severity: What that does to a user.
        others: Violations of the same law by the same target that are of another kind, a wrong number beside
            an exception for instance.
    """

    def __init__(self, law: Law, backend: BackendLabel, case: ReproducibleCase, judgement: Judgement) -> None:
        self.law, self.backend, self.case, self.judgement = law, backend, case, judgement
        self.severity: Severity | None = classify_severity(law, case, judgement)
        self.others: tuple[LawViolation, ...] = ()
        super().__init__(self.as_text())

    # An isolated backend fails in a process of its own, from which its violation is sent pickled.
    def __reduce__(self) -> tuple[Any, ...]:
        arguments = self.law, self.backend, self.case, self.judgement
        return LawViolation, arguments, {"others": self.others}

    @property
    def kind(self) -> tuple[Severity | None, bool]:
        """Its severity, and whether it is an exception."""
        return self.severity, self.judgement.raised

    def as_flaky(self) -> "LawViolation":
        """Return the violation as one that did not show when its case was tried again."""
        note = "but not when tried again: it is nondeterministic, or depends on earlier calls"
        judgement = replace(self.judgement, reason=f"{self.judgement.reason}\n  {note}")
        return LawViolation(self.law, self.backend, self.case, judgement)

    def explains(self, severity: Severity | None, raised: bool) -> bool:
        """Return whether a violation of this severity, by an exception or not, is no news beside this one."""
        return explains(*self.kind, severity, raised)

    @property
    def title(self) -> str:
        place = f"{self.case.target_name} on {self.backend.name} ({self.backend.device})"
        breaks = "loses digits" if self.judgement.verdict == "lossy" else "breaks a law"
        return make_printable(f"{self.severity}  {place} {breaks}: {self.law_sentence}")

    @property
    def law_sentence(self) -> str:
        """The law as a sentence."""
        return self.law.__name__.replace("_", " ")

    @property
    def signature(self) -> tuple[str, ...]:
        """What failures of the same op and cause have in common."""
        return identify_cause(self.backend.source, self.case.target_name, self.judgement.reason)

    def as_text(self) -> str:
        reason = self.judgement.reason.split("\n")
        shown = find_shown_case(self.law, self.case, self.judgement)
        return "\n".join([self.title, *(f"  {line}" for line in (*shown.as_lines(), *reason))])

    def as_script(self) -> str:
        """Return a script that shows the case and exits with 1 if the law is still broken on it."""
        expression = self.case.as_python()
        is_crash = isinstance(self.judgement, CrashOrTimeout)  # then the script must not load the backend
        made = self.backend.expression or f"load({self.backend.source!r})"
        backend = repr(self.backend.source) if is_crash else made
        head = [
            f"# made by {sys.executable} {platform.python_version()}",
            f'"""{_escape_for_docstring(self.title)}.',
            f'{_escape_for_docstring(self.judgement.reason.split(chr(10))[0])}."""',
            *_format_imports(self.backend.source, expression),
            *([] if is_crash else ["from gradspec.backends import load"]),
            f"from {type(self.case).__module__} import {type(self.case).__name__}",
            "from gradspec.properties.judging.reproduce import reproduce",
            f"from {self.law.__module__} import {self.law.__name__}",
            *self.backend.setup,
            "",
        ]
        arguments = [self.law.__name__, backend, "case", *self._list_options()]
        if len(head) + len(expression.split("\n")) + 1 > 19:
            expression = " ".join(line.strip() for line in expression.split("\n"))
        return "\n".join([*head, f"case = {expression}", f"reproduce({', '.join(arguments)})", ""])

    def _list_options(self) -> list[str]:
        """Return what `reproduce` must know besides, as Python code."""
        if isinstance(self.judgement, CrashOrTimeout):
            return [f"seconds={self.judgement.time_limit:g}"]
        return ['failing=("disagree", "lossy")'] if self.judgement.verdict == "lossy" else []

    def as_capsule(self) -> dict[str, Any]:
        """Return all that is known about the failure, for tools."""
        return {
            "law": f"{self.law.__module__}:{self.law.__name__}",
            "backend": self.backend.source,
            "device": self.backend.device,
            "case": self.case.as_json(),
            "verdict": self.judgement.verdict,
            "severity": self.severity,
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


def combine_violations(violations: Iterable[LawViolation]) -> LawViolation:
    """Return the worst of some violations of one law, which has with it those that no worse one explains."""
    kept: list[LawViolation] = []
    for violation in sorted(violations, key=lambda v: rank_severity(v.severity or "")):
        if not any(k.explains(*violation.kind) for k in kept):
            kept.append(violation)
    kept[0].others = tuple(kept[1:])
    return kept[0]


def format_command(script: str | Path) -> str:
    """Return a command that runs a script by the interpreter of this process.

    That is "python" where a shell would find the same one by this name, else its path.
    """
    found, own = shutil.which("python"), Path(sys.executable)
    # Of a virtual environment all interpreters are links to the same file outside of it.
    is_own = found is not None and Path(found).parent == own.parent and Path(found).samefile(own)
    folder = Path.cwd()
    path = own.relative_to(folder) if own.is_relative_to(folder) else own
    return f"{'python' if is_own else shlex.quote(str(path))} {script}"


def _format_imports(source: str, expression: str) -> list[str]:
    """Return the imports that a script needs, to load backend and ops and to write the values of a case."""
    values = [name for name in ("inf", "nan") if re.search(rf"\b{name}\b", expression)]
    modules = [address.partition(":")[0] for address in _ADDRESS.findall(expression)]
    if ":" in source and source not in BUILT_IN:
        modules.append(source.partition(":")[0])
    homes = dict.fromkeys(filter(None, map(_find_import_folder, modules)))
    return [
        *([f"import sys; sys.path[:0] = {[*homes]!r}"] if homes else []),
        *([f"from math import {', '.join(values)}"] if values else []),
        *(["import numpy as np"] if "np." in expression else []),
    ]


_ADDRESS = re.compile(r"'(\w+(?:\.\w+)*:\w+)'")
"""An op that is declared outside of the spec, as the expression of a case has it."""


def _find_import_folder(module_name: str) -> str | None:
    """Return the folder that a module is imported from, None if it is installed."""
    try:
        module = find_spec(module_name.split(".")[0])  # not imported here: it may do anything
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


@cache
def collect_versions() -> dict[str, str]:
    """Return the versions that the failure was seen with."""
    installed = {d.name: d.version for d in metadata.distributions()}
    libraries = ("gradspec", "torch", "cupy-cuda13x", "jax", "hypothesis")
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "numpy": np.__version__,
    } | {name: installed[name] for name in libraries if name in installed}
