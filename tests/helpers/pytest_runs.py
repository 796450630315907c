"""Runs of the properties as a user starts them: each in its own process, from its own folder."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).parents[2]


@dataclass
class PytestRun:
    """A run that has ended."""

    status: int
    output: str
    folder: Path

    @property
    def failure_scripts(self) -> list[Path]:
        return sorted((self.folder / "failures").glob("*.py"))


def make_environment() -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST") and k != "CI"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', '')}"  # as once activated
    return inherited | {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100", "PY_COLORS": "0"}


def make_command(*arguments: str, properties: str = "gradspec.properties", seed: int | None = 1) -> list[str]:
    plugin = ("-p", "gradspec.properties.plugin", "-p", "no:cacheprovider")
    defaults = {"--hypothesis-profile": "quick"} | ({} if seed is None else {"--hypothesis-seed": str(seed)})
    options = [f"{name}={value}" for name, value in defaults.items() if not any(name in a for a in arguments)]
    return [sys.executable, "-m", "pytest", *plugin, "--pyargs", properties, *options, *arguments]


def read_example_backend() -> str:
    """Return the source of the backend that the README shows in full, as `my_backend.py`."""
    text = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(# my_backend\.py\n.*?)```", text, re.DOTALL)
    return str(example)


def run_properties(
    folder: Path,
    *arguments: str,
    properties: str = "gradspec.properties",
    seed: int | None = 1,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> PytestRun:
    """Run `pytest --pyargs gradspec.properties` with these arguments.

    Args:
        folder: The folder to run it from.
        *arguments: The arguments.
        properties: A package or folder of properties to run in place of `gradspec.properties`.
        seed: That of --hypothesis-seed, unless it is among the arguments; None to leave the option out.
        environment: Environment variables to set besides.
    """
    finished = subprocess.run(
        make_command(*arguments, properties=properties, seed=seed),
        cwd=folder,
        env={**make_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return PytestRun(finished.returncode, finished.stdout + finished.stderr, folder)


def copy_one_property(folder: Path) -> str:
    """Copy one property into a folder within this one, since one takes less time than all.

    Returns:
        The name of that folder.
    """
    return copy_properties(folder, "test_value.py")


def copy_properties(folder: Path, *files: str) -> str:
    """Copy some files of properties into a folder within this one, and return the name of that folder."""
    (folder / "properties").mkdir(parents=True)
    for file in files:
        shutil.copy(ROOT / "properties" / file, folder / "properties")
    return "properties"


def run_script(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the script from a folder, which need not be the one it was written to."""
    return subprocess.run(
        [sys.executable, script.resolve()],
        cwd=folder,
        env=make_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
