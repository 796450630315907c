"""Runs of the properties as a user starts them: in a process of their own, from a folder of their own."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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
    return inherited | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100", "PY_COLORS": "0"}


def make_command(*arguments: str, properties: str = "gradspec.properties") -> list[str]:
    plugin = ("-p", "gradspec.properties.plugin", "-p", "no:cacheprovider")
    usual = {"--hypothesis-profile": "quick", "--hypothesis-seed": "1"}
    rest = [f"{name}={value}" for name, value in usual.items() if not any(name in a for a in arguments)]
    return [sys.executable, "-m", "pytest", *plugin, "--pyargs", properties, *rest, *arguments]


def read_readme_backend() -> str:
    """The backend that the README shows in full, as `my_backend.py`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(# my_backend\.py\n.*?)```", text, re.DOTALL)
    return str(example)


def run_properties(folder: Path, *arguments: str, properties: str = "gradspec.properties") -> PytestRun:
    """`pytest --pyargs gradspec.properties` with these arguments, from this folder. properties: others than these."""
    done = subprocess.run(
        make_command(*arguments, properties=properties),
        cwd=folder,
        env=make_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return PytestRun(done.returncode, done.stdout + done.stderr, folder)


def copy_one_property(folder: Path) -> str:
    """A folder in this one with one property in it, which takes less time than all do."""
    (folder / "properties").mkdir()
    shutil.copy(ROOT / "properties" / "test_value.py", folder / "properties")
    return "properties"


def run_script(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The script, run from another folder than it was written in."""
    return subprocess.run(
        [sys.executable, script.resolve()],
        cwd=folder,
        env=make_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
