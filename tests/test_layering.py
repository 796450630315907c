"""Who imports whom, read off the source.

reference   the standard library and NumPy
backends    reference, and the library each offers, when asked for it
properties  reference and backends, through whose interface alone they meet a library
asv_bench   reference and backends; of the properties what judges, and never Hypothesis
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARIES = ("array_api_compat", "autograd", "cupy", "jax", "tensorflow", "torch", "triton")

ImportRule = Callable[[str], bool]
"""Whether a module may import what has this dotted name."""


def allow_only(*packages: str) -> ImportRule:
    return lambda name: _is_within(name, packages)


def forbid(*packages: str) -> ImportRule:
    return lambda name: not _is_within(name, packages)


def require_all(*rules: ImportRule) -> ImportRule:
    return lambda name: all(rule(name) for rule in rules)


def require_any(*rules: ImportRule) -> ImportRule:
    return lambda name: any(rule(name) for rule in rules)


def _is_within(name: str, packages: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


JUDGING_MODULES = (
    "gradspec.properties.cases.case",
    "gradspec.properties.judging",
    "gradspec.properties.laws",
)
"""What of the properties knows neither pytest nor Hypothesis."""

IMPORT_RULE_BY_FOLDER: dict[str, ImportRule] = {
    "reference": allow_only("numpy", "gradspec.reference", *sys.stdlib_module_names),
    "backends": forbid("gradspec.properties", "asv_bench", "hypothesis", "pytest"),
    "properties": forbid("asv_bench", *LIBRARIES),
    "asv_bench": require_all(
        forbid("hypothesis", "pytest"),
        require_any(forbid("gradspec.properties"), allow_only(*JUDGING_MODULES)),
    ),
}


def find_violations(folder: str, source: str) -> list[str]:
    """What a module of this folder imports and may not, as "line 3: torch".

    A relative import is one too: it reaches a module by a name that no rule knows.
    """
    return [
        f"line {line}: {name}"
        for line, name in list_imports(source)
        if name.startswith(".") or not IMPORT_RULE_BY_FOLDER[folder](name)
    ]


def list_imports(source: str) -> Iterator[tuple[int, str]]:
    """Every import of a module, wherever it stands, as its line and the dotted name of what it brings in."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                yield from ((node.lineno, f"{'.' * level}{module or ''}.{alias.name}") for alias in names)
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]) if _is_import_function(func):
                yield node.lineno, name


def _is_import_function(func: ast.expr) -> bool:
    return ast.unparse(func).rpartition(".")[2] in {"__import__", "import_module", "importorskip"}


@pytest.mark.parametrize("folder", IMPORT_RULE_BY_FOLDER)
def test_every_module_keeps_to_its_layer(folder: str) -> None:
    modules = sorted((ROOT / folder).rglob("*.py"))
    assert modules, f"{folder}/ holds no module"
    broken = [
        f"{path.relative_to(ROOT)}, {violation}"
        for path in modules
        for violation in find_violations(folder, path.read_text(encoding="utf-8"))
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("reference", "import torch"),
        ("reference", "import numpy as np, scipy"),
        ("reference", "import gradspec"),
        ("reference", "from gradspec import backends"),
        ("reference", "from gradspec.backends import load"),
        ("reference", "from ..backends import load"),
        ("reference", "def f():\n    import hypothesis"),
        ("backends", "import gradspec.properties.judging.judge"),
        ("backends", "from gradspec import properties"),
        ("backends", "from asv_bench import workloads"),
        ("backends", "from hypothesis.extra import numpy"),
        ("backends", "if True:\n    import pytest"),
        ("backends", "from .. import properties"),
        ("properties", "import asv_bench"),
        ("properties", "from torch.nn import functional"),
        ("properties", "def f():\n    import cupy as cp"),
        ("properties", "import importlib\nimportlib.import_module('torch')"),
        ("properties", "import pytest\npytest.importorskip('cupy')"),
        ("properties", "__import__('jax.numpy')"),
        ("asv_bench", "import hypothesis"),
        ("asv_bench", "from hypothesis import strategies"),
        ("asv_bench", "import pytest"),
        ("asv_bench", "from gradspec.properties.drawing.strategies import cases"),
        ("asv_bench", "def f():\n    import gradspec.properties.running.under_test"),
        ("asv_bench", "from gradspec import properties"),
    ],
)
def test_a_planted_import_is_caught(folder: str, source: str) -> None:
    assert find_violations(folder, source)


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("reference", "import numpy as np\nfrom numpy.typing import NDArray"),
        ("reference", "import collections.abc\nfrom gradspec.reference import ops"),
        ("backends", "import torch\nfrom gradspec.reference import OPS"),
        ("properties", "import torchless\nfrom gradspec.backends import load"),
        ("asv_bench", "import torch\nfrom gradspec.reference import Tensor"),
        ("asv_bench", "from gradspec.properties.judging.judge import Judge"),
        ("asv_bench", "from gradspec.properties.laws.gradient import every_gradient_agrees"),
    ],
)
def test_what_a_layer_needs_is_allowed(folder: str, source: str) -> None:
    assert not find_violations(folder, source)


@pytest.mark.parametrize("module", ["gradspec.reference", "gradspec.backends", "gradspec.properties.plugin"])
def test_no_library_is_imported_before_it_is_asked_for(module: str) -> None:
    script = f"import sys, {module}; print(*sorted(set(sys.modules).intersection({LIBRARIES})))"
    assert _run_script(script).split() == []


IMPORT_ALL = """
import importlib, pkgutil, sys
def import_all(name):
    module = importlib.import_module(name)
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        import_all(found.name)
import_all(sys.argv[1])
print(*{"hypothesis", "pytest", "rich"}.intersection(sys.modules))
"""


@pytest.mark.parametrize("package", ["gradspec.reference", *JUDGING_MODULES])
def test_spec_and_judge_are_imported_without_hypothesis_or_pytest(package: str) -> None:
    """Every module of them, for an empty `__init__` imports nothing anyway."""
    assert _run_script(IMPORT_ALL, package).split() == []


def _run_script(script: str, *arguments: str) -> str:
    """What a fresh interpreter prints that runs the script with the package of this checkout."""
    script = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); {script}"
    run = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
