"""Runs of the examples: each in a copy of its folder, in its own process."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.helpers.pytest_runs import ROOT, make_environment

EXAMPLES = ROOT / "examples"


def run(
    folder: Path,
    command: str | Sequence[str],
    path: Sequence[Path] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> tuple[int, str]:
    """Run a command of Python's, such as pytest, and return its exit status and what it prints.

    Args:
        folder: The folder to run it in.
        command: The module and its arguments, also as one text.
        path: Folders to import from besides.
        environment: Environment variables to set besides.
    """
    arguments = shlex.split(command) if isinstance(command, str) else command
    inherited = make_environment()
    inherited["PYTHONPATH"] = os.pathsep.join([inherited["PYTHONPATH"], *map(str, path)])
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def copy(name: str, folder: Path) -> Path:
    """Copy an example into a folder, and return where it is."""
    shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return folder / name


def change(file: Path, right: str, wrong: str) -> None:
    """Change a text in a file that must have it."""
    text = file.read_text(encoding="utf-8")
    assert right in text
    file.write_text(text.replace(right, wrong), encoding="utf-8")


def install(package: Path, target: Path) -> None:
    """Install a package, without what it depends on, into a folder of its own."""
    options = ("-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    status, output = run(package, ("pip", "install", *options, "--target", str(target), "."))
    assert status == 0, output
