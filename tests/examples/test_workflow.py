"""The workflow for GitHub Actions: its commands are those of the package that it is for, and find faults."""

import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.example_runs import EXAMPLES, change, copy, install, run
from tests.helpers.pytest_runs import ROOT

WORKFLOW = EXAMPLES / "github_actions" / "gradspec.yml"
AT_NIGHT = "github.event_name == 'schedule'"


def read_steps() -> list[Mapping[str, Any]]:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    steps: list[Mapping[str, Any]] = job["steps"]
    return steps


def list_commands(at_night: bool) -> list[str]:
    """Return what verifies, of a push or at night: pytest, then gradspec."""
    commands = []
    for step in read_steps():
        command = step.get("run", "")
        if not command.startswith("pip") and command and (AT_NIGHT in step["if"]) == at_night:
            commands.append(command.replace("${{ github.run_number }}", "17"))
    assert [command.split()[0] for command in commands] == ["pytest", "gradspec"]
    return commands


def run_on_github(folder: Path, command: str, installed: Path) -> tuple[int, str]:
    """Run a command where CI is set, with the fewest examples if it is gradspec's."""
    if command.startswith("gradspec"):
        command = re.sub(r" --hypothesis-profile=\w+", "", command) + " --hypothesis-profile=quick"
    return run(folder, command, path=[installed], environment={"CI": "true"})


def test_what_it_installs_there_is() -> None:
    texts = [step["run"] for step in read_steps() if step.get("run", "").startswith("pip")]
    requirements = [word for text in texts for word in shlex.split(text)]
    extras = {name: extra for word in requirements for name, extra in re.findall(r"^([\w.]+)\[(\w+)\]", word)}
    assert extras.keys() == {"gradspec", "."}
    for name, folder in {"gradspec": ROOT, ".": EXAMPLES / "own_op"}.items():
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert extras[name] in project["optional-dependencies"]


def test_what_it_uploads_is_what_the_commands_write() -> None:
    (upload,) = (step["with"] for step in read_steps() if "upload-artifact" in step.get("uses", ""))
    assert upload["path"].split() == ["gradients.json", "failures"]
    assert all("--matrix=gradients.json" in list_commands(night)[1] for night in (False, True))


@pytest.mark.rotating
def test_the_package_passes_and_a_fault_is_found_and_remembered_at_night(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder, installed = copy("own_op", tmp_path), tmp_path / "installed"
    install(folder, installed)
    matrix, remembered = folder / "gradients.json", folder / ".hypothesis" / "examples"
    for command in list_commands(at_night=False):
        status, output = run_on_github(folder, command, installed)
        assert status == 0, output
        assert ("every gradient agrees" in output) == command.startswith("gradspec")
    assert matrix.exists()
    matrix.unlink()
    for place in (folder, installed):
        change(place / "my_ops" / "layer.py", "* -2 * scaled", "* -1 * scaled")
    for command in (list_commands(at_night=False)[0], *list_commands(at_night=True)):
        status, output = run_on_github(folder, command, installed)
        assert status == 1, output
        assert "wrong  my_ops.backend:gaussian_formula on " in output
        assert remembered.exists() == ("--hypothesis-" in command)
    assert matrix.exists()
    assert list((folder / "failures").glob("*.py"))


def test_the_actions_are_those_of_github() -> None:
    """Each with the number of a version; the cache is saved after a failure, too."""
    used = [step["uses"] for step in read_steps() if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w/-]+@v\d+", action) for action in used)
    by_name = {step["uses"].split("@")[0]: step for step in read_steps() if "uses" in step}
    restored, saved = by_name["actions/cache/restore"], by_name["actions/cache/save"]
    assert restored["with"]["path"] == saved["with"]["path"] == ".hypothesis"
    assert "!cancelled()" in saved["if"]
