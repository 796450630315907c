"""What the wheel and the source distribution hold, and that the properties run from the wheel."""

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.xdist_group("packaging")
ROOT = Path(__file__).parents[1]
SHIPPED_FOLDERS = ("reference", "backends", "properties")


class BuiltArchives(NamedTuple):
    """The source distribution and the two wheels built from the checkout and from the source distribution."""

    sdist: Path
    wheel: Path
    wheel_of_sdist: Path


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> BuiltArchives:
    """The archives, built by the installed hatchling, so that nothing is downloaded."""
    checkout, sdist = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("sdist")
    _run_python("-m", "build", "--no-isolation", "--wheel", "--outdir", str(checkout), str(ROOT))
    _run_python("-m", "build", "--no-isolation", "--outdir", str(sdist), str(ROOT))
    return BuiltArchives(
        _find_only_file(sdist, "*.tar.gz"),
        _find_only_file(checkout, "*.whl"),
        _find_only_file(sdist, "*.whl"),
    )


@pytest.fixture(scope="session")
def unpacked_wheel(archives: BuiltArchives, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is unpacked into, which is all that installing it does."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(archives.wheel) as wheel:
        wheel.extractall(folder)
    return folder


def _run_python(*args: str, cwd: Path = ROOT, path: Sequence[str] = ()) -> str:
    """Run the interpreter in `cwd` with `path` as its PYTHONPATH; return what it prints."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, *args]
    run = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"python {' '.join(args)}\n{run.stdout}\n{run.stderr}"
    return run.stdout


def _find_only_file(folder: Path, pattern: str) -> Path:
    [path] = folder.glob(pattern)
    return path


def _list_members(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def _list_files(*folders: str) -> set[str]:
    """Return the files of these folders, relative to the root, without caches."""
    files = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    paths = (path.relative_to(ROOT) for path in files)
    return {path.as_posix() for path in paths if not any(map(_is_cache, path.parts))}


def _is_cache(name: str) -> bool:
    return name == "__pycache__" or name.startswith(".")


def test_the_wheel_holds_the_folders_and_nothing_else(archives: BuiltArchives) -> None:
    package = {
        f"gradspec/{file}"
        for file in ("__init__.py", "__main__.py", "command.py", "py.typed", *_list_files(*SHIPPED_FOLDERS))
    } | {file.removeprefix("src/") for file in _list_files("src/gradspec/timing")}
    assert {file for file in _list_members(archives.wheel) if ".dist-info/" not in file} == package


def test_the_wheel_has_one_package_at_its_top(archives: BuiltArchives) -> None:
    tops = {PurePosixPath(file).parts[0] for file in _list_members(archives.wheel)}
    [metadata] = tops - {"gradspec"}
    assert metadata.startswith("gradspec-")
    assert metadata.endswith(".dist-info")


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_checkout(archives: BuiltArchives) -> None:
    assert _list_members(archives.wheel_of_sdist) == _list_members(archives.wheel)


def test_the_sdist_holds_each_file_once(archives: BuiltArchives) -> None:
    """The folders, tests, benchmarks and examples, but not the links, which would be second copies."""
    with tarfile.open(archives.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    links = tuple(f"src/gradspec/{folder}" for folder in SHIPPED_FOLDERS)
    assert _list_files(*SHIPPED_FOLDERS, "src/gradspec/timing", "tests", "asv_bench", "examples") <= names
    assert [name for name in names if name.startswith(links)] == []


# As a plugin of pytest, this prints every file of gradspec that was imported under two names. The package
# that pytest makes of properties/ is allowed: it holds only a docstring.
PROBE_PLUGIN = """
import os, sys

def pytest_collection_finish(session):
    names = {}
    for name, module in list(sys.modules.items()):
        if file := getattr(module, "__file__", None):
            names.setdefault(os.path.realpath(file), set()).add(name)
    for names_of_file in names.values():
        if len(names_of_file) > 1 and any(name.startswith("gradspec") for name in names_of_file):
            print("TWICE", *sorted(names_of_file))
"""
ALLOWED_DUPLICATE_LINE = "TWICE gradspec.properties properties"


def _collect_properties(*args: str, cwd: Path, probe_folder: Path, path: Sequence[str] = ()) -> set[str]:
    """Return the properties that pytest finds if it finds gradspec on `path` or by its own settings only.

    `-S` leaves out the gradspec of the environment, which is the checkout, installed as editable. The folders
    of its other packages are therefore named one by one.
    """
    (probe_folder / "probe.py").write_text(PROBE_PLUGIN, encoding="utf-8")
    packages = [folder for folder in sys.path if folder.endswith("-packages")]
    pytest_args = ("-p", "probe", "-p", "no:cacheprovider", "--collect-only", "-q", "--backend=numpy", *args)
    path = [*path, *packages, str(probe_folder)]
    output = _run_python("-S", "-P", "-m", "pytest", *pytest_args, cwd=cwd, path=path)
    lines = set(output.splitlines()) - {ALLOWED_DUPLICATE_LINE}
    assert [line for line in lines if line.startswith("TWICE")] == []
    return {line.rpartition("/")[2] for line in lines if "::" in line}


def test_the_properties_run_in_a_bare_clone_as_in_an_installed_wheel(
    unpacked_wheel: Path, tmp_path: Path
) -> None:
    clone = _collect_properties("properties/", cwd=ROOT, probe_folder=tmp_path)
    shipped = ("-p", "gradspec.properties.plugin", "--pyargs", "gradspec.properties")
    wheel = _collect_properties(*shipped, cwd=tmp_path, probe_folder=tmp_path, path=[str(unpacked_wheel)])
    assert clone
    assert clone == wheel


KERNEL = """
import numpy as np
from gradspec import Array, Real, op
from gradspec.backends import load
from gradspec.reference import record

@op("(*b,n),(n)->(*b,n)", eps=[1e-6, 1e-2])
def rms_norm(x: Real, weight: Real, *, eps: float = 1e-6) -> Array:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight

def forget_the_mean(x, weight, *, eps=1e-6):
    scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    return x * scale * weight, (lambda g: g * weight * scale, lambda g: g * x * scale)

backend = load("numpy").with_ops(name="mine", rms_norm=record(forget_the_mean))
"""


@pytest.mark.rotating
def test_an_own_op_is_verified_by_what_is_installed_in_a_new_environment(
    archives: BuiltArchives, tmp_path: Path
) -> None:
    """By the console command, from another folder, in a process of its own; and its script runs elsewhere."""
    environment, kernels = tmp_path / "environment", tmp_path / "kernels"
    kernels.mkdir()
    (kernels / "mine.py").write_text(KERNEL, encoding="utf-8")
    _run_python("-m", "venv", "--without-pip", str(environment))
    python = environment / "bin" / "python"
    _run_python(
        "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(archives.wheel)
    )
    # The libraries that gradspec needs, without the checkout that is installed beside them as editable.
    (packages,) = environment.glob("lib/*/site-packages")
    others = [folder for folder in sys.path if folder.endswith("-packages")]
    (packages / "others.pth").write_text("\n".join(others), encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: Path | str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)

    options = ("--op", "rms_norm", "--hypothesis-profile=quick", "-kgradient_agrees or spec_agrees")
    verified = run(
        environment / "bin" / "gradspec", "verify", "--backend", "mine:backend", *options, cwd=kernels
    )
    assert verified.returncode == 1, verified.stdout + verified.stderr
    assert "wrong  mine:rms_norm on mine (cpu) breaks a law: every gradient agrees" in verified.stdout
    alone = run(
        environment / "bin" / "gradspec", "verify", "--op=mine:rms_norm", "-kspec_agrees", cwd=kernels
    )
    assert alone.returncode == 0, alone.stdout + alone.stderr
    (script,) = (kernels / "failures").glob("*.py")
    reproduced = run(python, script, cwd=tmp_path)
    assert reproduced.returncode == 1, reproduced.stderr
    assert "wrong: the gradient of x" in reproduced.stdout
    where = run(python, "-c", "import gradspec.reference; print(gradspec.reference.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(packages)


def test_the_package_that_pytest_imports_twice_holds_only_a_docstring() -> None:
    """Pytest imports the folder as a package `properties`; everything else imports gradspec.properties."""
    [docstring] = ast.parse((ROOT / "properties" / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)


def _run_asv(folder: Path, wheel: Path, *arguments: str) -> tuple[int, str]:
    """Run asv on a suite, with gradspec from a wheel; return its status and what it prints."""
    run = subprocess.run(
        [sys.executable, "-m", "asv", *arguments],
        cwd=folder,
        env=os.environ | {"HOME": str(folder.parent), "ASV_PYTHONPATH": str(wheel), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout


@pytest.mark.rotating
def test_the_example_of_an_asv_suite_runs_from_an_installed_wheel(
    unpacked_wheel: Path, tmp_path: Path
) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for folder in (right, wrong):
        shutil.copytree(ROOT / "examples" / "asv_suite", folder)
        with (folder / "benchmarks" / "__init__.py").open("a", encoding="utf-8") as suite:
            suite.write(f"\nimport gradspec\nassert gradspec.__file__.startswith({str(unpacked_wheel)!r})\n")
    kernels = wrong / "benchmarks" / "my_kernels.py"
    kernels.write_text(kernels.read_text(encoding="utf-8").replace("1 + x * (1 - s)", "1 + x - s"))
    run_once = ("run", "--python=same", "--quick", "--show-stderr", "--bench")
    assert _run_asv(right, unpacked_wheel, "machine", "--yes")[0] == 0
    status, output = _run_asv(right, unpacked_wheel, "check", "--python=same")
    assert (status, "No problems found" in output) == (0, True), output
    few = "(time_forward|track_backward_ratio).*overhead"
    status, output = _run_asv(right, unpacked_wheel, *run_once, few)
    assert (status, "failed" in output) == (0, False), output
    for text in ("Running 2 total benchmarks", "Silu.time_forward", "Silu.track_backward_ratio", "torch"):
        assert text in output
    status, output = _run_asv(wrong, unpacked_wheel, *run_once, "time_backward.*overhead")
    assert status != 0
    assert "NotTimed: at size overhead, the gradient of x" in output
