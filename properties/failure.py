"""A failure, told for people: the smallest case, which law it breaks, and a script that breaks it again.

Each failure is written twice under `failures/`: as a script of less than 20 lines that needs gradspec and the backend
and nothing else, and as a JSON capsule for tools.
"""

import json
import platform
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Protocol

from gradspec.backends import Backend
from gradspec.properties.judge import Judgement

Law = Callable[[Backend, Any], Judgement]
"""What a property asks of one case: whether the backend obeys. Exceptions of the backend are failures."""


class Reproducible(Protocol):
    """What a law can be tried on: something that can be shown to people, to Python and to tools."""

    @property
    def subject(self) -> str: ...
    def expression(self) -> str: ...
    def lines(self) -> list[str]: ...
    def as_json(self) -> dict[str, Any]: ...


class Disagreement(AssertionError):
    """A backend breaks a law on a case."""

    def __init__(
        self, law: Law, backend: Backend, source: str, case: Reproducible, judgement: Judgement
    ) -> None:
        self.law, self.backend, self.source, self.case, self.judgement = law, backend, source, case, judgement
        super().__init__(self.text())

    @property
    def title(self) -> str:
        law = self.law.__name__.replace("_", " ")
        return f"{self.case.subject} on {self.backend.name} ({self.backend.device}) breaks a law: {law}"

    def text(self) -> str:
        return "\n".join(
            [self.title, *(f"  {line}" for line in self.case.lines()), f"  {self.judgement.reason}"]
        )

    def script(self) -> str:
        """A program that tries the law on the case once more; exits with 1 if it is still broken."""
        local = f"import sys; sys.path.insert(0, {str(Path.cwd())!r})\n" if ":" in self.source else ""
        reason = self.judgement.reason.replace("\\", "\\\\").replace('"""', "'''")
        return (
            f'"""{self.title}.\n\n{_wrapped(reason)}\n"""\n'
            f"{local}from math import inf, nan\n\n"
            "import numpy as np\n\n"
            "from gradspec.backends import load\n"
            f"from {type(self.case).__module__} import {type(self.case).__name__}\n"
            f"from {self.law.__module__} import {self.law.__name__}\n\n"
            f"case = {self.case.expression()}\n"
            f"judgement = {self.law.__name__}(load({self.source!r}), case)\n"
            "print(judgement)\n"
            'raise SystemExit(judgement.verdict == "disagree")\n'
        )

    def capsule(self) -> dict[str, Any]:
        """All that is known of the failure, for tools."""
        return {
            "law": f"{self.law.__module__}:{self.law.__name__}",
            "backend": self.source,
            "case": self.case.as_json(),
            "reason": self.judgement.reason,
            "worst": repr(self.judgement.worst),
            "versions": versions(),
        }

    def save(self, folder: Path) -> Path:
        """Write script and capsule, each whole or not at all; the path of the script."""
        name = re.sub(r"[^\w.-]+", "-", f"{self.law.__name__}-{self.case.subject}-{self.backend.name}")
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / f"{name}.json", json.dumps(self.capsule(), indent=2) + "\n")
        write(folder / f"{name}.py", self.script())
        return folder / f"{name}.py"


def write(path: Path, text: str) -> None:
    """Write a file by renaming a finished one into its place."""
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


def versions() -> dict[str, str]:
    """What the failure was seen with."""
    installed = {d.name: d.version for d in metadata.distributions()}
    libraries = ("gradspec", "numpy", "torch", "cupy-cuda13x", "jax", "hypothesis")
    return {"python": sys.version.split()[0], "platform": platform.platform()} | {
        name: installed[name] for name in libraries if name in installed
    }


def _wrapped(text: str) -> str:
    return text if len(text) < 400 else text[:400] + " ..."


class Described:
    """Makes a dataclass of plain values reproducible: its repr is an expression."""

    subject = "programs"

    def expression(self) -> str:
        return repr(self)

    def lines(self) -> list[str]:
        return [repr(self)]

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))
