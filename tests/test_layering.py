"""Which module may import which, checked in the source.

src/gradspec  the standard library; what else it offers is imported once someone asks for it
reference     the standard library and NumPy, without circular imports
backends      reference, and the library that each backend wraps, once that backend is asked for
properties    reference and backends, whose interface is the only way to a library; inside, each folder
              imports only those before it: cases, judging, laws (none of which imports Hypothesis or pytest),
              drawing, running, verifying
  timing      reference and backends; of the properties cases, judging and laws; no Hypothesis, no pytest
asv_bench     reference, backends, timing; of the properties cases, judging and laws, and never Hypothesis
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest

import gradspec

ROOT = Path(__file__).parents[1]
BACKEND_LIBRARIES = ("array_api_compat", "autograd", "cupy", "jax", "tensorflow", "torch", "triton")

ImportRule = Callable[[str], bool]
"""Whether a module may import this dotted name."""


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


PROPERTIES_LAYERS = ("cases", "judging", "laws", "drawing", "running", "verifying")
"""The folders of properties/: each imports only those before it."""

LAYERS_WITHOUT_HYPOTHESIS = tuple(f"gradspec.properties.{layer}" for layer in PROPERTIES_LAYERS[:3])
"""The packages of the properties that import neither pytest nor Hypothesis."""

RULE_FOR_ALL_PROPERTIES = forbid("asv_bench", "tests", *BACKEND_LIBRARIES)

IMPORT_RULE_BY_FOLDER: dict[str, ImportRule] = {
    "reference": allow_only("numpy", "gradspec.reference", *sys.stdlib_module_names),
    "backends": forbid("gradspec.properties", "asv_bench", "tests", "hypothesis", "pytest"),
    "properties": RULE_FOR_ALL_PROPERTIES,
    **{
        f"properties/{layer}": require_all(
            RULE_FOR_ALL_PROPERTIES,
            forbid(*(f"gradspec.properties.{later}" for later in ("plugin", *PROPERTIES_LAYERS[i + 1 :]))),
            forbid() if layer in ("running", "verifying") else forbid("pytest", "rich"),
            forbid() if layer in ("running", "verifying", "drawing") else forbid("hypothesis"),
        )
        for i, layer in enumerate(PROPERTIES_LAYERS)
    },
    "src/gradspec": require_all(
        allow_only(*sys.stdlib_module_names, "gradspec"),
        require_any(
            forbid("gradspec.backends", "gradspec.properties"), allow_only("gradspec.properties.verifying")
        ),
    ),
    "src/gradspec/timing": require_all(
        forbid("asv_bench", "tests", "hypothesis", "pytest", *BACKEND_LIBRARIES),
        require_any(
            forbid("gradspec.properties"),
            allow_only(*LAYERS_WITHOUT_HYPOTHESIS, "gradspec.properties.running.files"),
        ),
    ),
    "asv_bench": require_all(
        forbid("tests", "hypothesis", "pytest"),
        require_any(forbid("gradspec.properties"), allow_only(*LAYERS_WITHOUT_HYPOTHESIS)),
    ),
}
"""By folder, what its modules may import; in a folder within another, both rules hold."""


def find_violations(folder: str, source: str) -> list[str]:
    """Return the imports that a module of this folder may not have, each as "line 3: torch".

    A relative import is one too: it reaches a module by a name that no rule knows.
    """
    return [
        f"line {line}: {name}"
        for line, name in list_imports(source)
        if name.startswith(".") or not IMPORT_RULE_BY_FOLDER[folder](name)
    ]


def list_imports(source: str) -> Iterator[tuple[int, str]]:
    """Yield every import of a module, wherever it stands, as its line and the dotted name that it imports."""
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
    pattern = "*.py" if folder == "src/gradspec" else "**/*.py"  # of which timing/ has a rule of its own
    modules = sorted(path for path in (ROOT / folder).glob(pattern) if not (ROOT / folder).is_symlink())
    assert modules, f"{folder}/ holds no module"
    violations = [
        f"{path.relative_to(ROOT)}, {violation}"
        for path in modules
        for violation in find_violations(folder, path.read_text(encoding="utf-8"))
    ]
    assert not violations, "\n".join(violations)


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
        ("properties/cases", "from gradspec.properties.judging.judge import Judge"),
        ("properties/cases", "from hypothesis import strategies"),
        ("properties/judging", "from gradspec.properties.laws import gradient"),
        ("properties/judging", "import hypothesis.strategies"),
        ("properties/laws", "def f():\n    from gradspec.properties.drawing.strategies import cases"),
        ("properties/laws", "from gradspec.properties.running.failure import LawViolation"),
        ("properties/laws", "import pytest"),
        ("properties/drawing", "from gradspec.properties.running.targets import OpUnderTest"),
        ("properties/drawing", "from pytest import mark"),
        ("properties/running", "from gradspec.properties.plugin import pytest_addoption"),
        ("properties/running", "from gradspec.properties.verifying import verify"),
        ("properties/verifying", "import torch"),
        ("src/gradspec", "import hypothesis"),
        ("src/gradspec", "from gradspec.properties.running import run"),
        ("src/gradspec/timing", "import pytest"),
        ("src/gradspec/timing", "def f():\n    import torch"),
        ("src/gradspec/timing", "from asv_bench.measuring import undisturbed_time"),
        ("src/gradspec/timing", "from gradspec.properties.running.report import RunResults"),
        ("asv_bench", "import hypothesis"),
        ("asv_bench", "from hypothesis import strategies"),
        ("asv_bench", "import pytest"),
        ("asv_bench", "from gradspec.properties.drawing.strategies import cases"),
        ("asv_bench", "def f():\n    import gradspec.properties.running.targets"),
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
        ("properties/judging", "from gradspec.properties.cases.case import Case"),
        ("properties/drawing", "import hypothesis\nfrom gradspec.properties.laws import programs"),
        ("properties/running", "import pytest, rich\nfrom gradspec.properties.drawing import strategies"),
        (
            "src/gradspec/timing",
            "import rich\nfrom gradspec.properties.running.files import write_atomically",
        ),
        ("asv_bench", "import torch\nfrom gradspec.reference import Tensor"),
        ("asv_bench", "from gradspec.timing.calls import make_typical_call"),
        ("asv_bench", "from gradspec.properties.judging.judge import Judge"),
        ("asv_bench", "from gradspec.properties.laws.gradient import every_gradient_agrees"),
    ],
)
def test_what_a_layer_needs_is_allowed(folder: str, source: str) -> None:
    assert not find_violations(folder, source)


@pytest.mark.parametrize("module", ["gradspec.reference", "gradspec.backends", "gradspec.properties.plugin"])
def test_no_library_is_imported_before_it_is_asked_for(module: str) -> None:
    script = f"import sys, {module}; print(*sorted(set(sys.modules).intersection({BACKEND_LIBRARIES})))"
    assert _run_script(script).split() == []


IMPORT_ALL_SCRIPT = """
import importlib, pkgutil, sys
def import_all(name):
    module = importlib.import_module(name)
    for submodule in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        import_all(submodule.name)
import_all(sys.argv[1])
print(*{"hypothesis", "pytest", "rich"}.intersection(sys.modules))
"""


def find_circle(imports: Mapping[str, Collection[str]]) -> list[str]:
    """Return the modules of a circle of imports, in order, or none if there is no circle."""
    finished: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in finished:
            return []
        for other in imports.get(module, ()):
            if circle := visit(other, [*path, module]):
                return circle
        finished.add(module)
        return []

    return next((circle for module in imports if (circle := visit(module, []))), [])


def map_imports(folder: str) -> dict[str, set[str]]:
    """Return by module of a folder the modules of the folder that it imports, even if only for types.

    A module that imports a package by its bare name imports what the package's `__init__` imports.
    """
    package = f"gradspec.{Path(folder).name}"
    paths = {}
    for path in (ROOT / folder).rglob("*.py"):
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        paths[".".join([package, *(part for part in parts if part != "__init__")])] = path
    graph = {}
    for name, path in paths.items():
        imports = {imported for _, imported in list_imports(path.read_text(encoding="utf-8"))}
        modules = {i if i in paths else i.rpartition(".")[0] for i in imports}
        graph[name] = {
            i for i in modules if i in paths and i not in (name, package) and not name.startswith(f"{i}.")
        }
    return graph


@pytest.mark.parametrize("folder", ["reference", "backends", "properties", "src/gradspec/timing"])
def test_no_imports_form_a_circle(folder: str) -> None:
    graph = map_imports(folder)
    assert sum(map(len, graph.values())) > 10
    assert find_circle(graph) == []


def test_a_planted_circle_is_found() -> None:
    assert find_circle({"a": ["b"], "b": ["c"], "c": ["b", "d"], "d": []}) == ["b", "c"]
    graph = map_imports("reference")
    graph["gradspec.reference.backward"].add("gradspec.reference.tape")  # as it once was, for types only
    assert {"gradspec.reference.tape", "gradspec.reference.backward"} <= {*find_circle(graph)}


@pytest.mark.parametrize("package", ["gradspec.reference", *LAYERS_WITHOUT_HYPOTHESIS])
def test_spec_and_judge_are_imported_without_hypothesis_or_pytest(package: str) -> None:
    """Every module of the packages: an `__init__` that holds only a docstring imports nothing anyway."""
    assert _run_script(IMPORT_ALL_SCRIPT, package).split() == []


def test_what_times_is_imported_without_hypothesis_or_pytest() -> None:
    assert _run_script(IMPORT_ALL_SCRIPT, "gradspec.timing").split() == ["rich"]


def test_gradspec_itself_is_light() -> None:
    """`import gradspec` imports neither what draws cases nor what runs properties."""
    heavy = "{'hypothesis', 'pytest', 'rich', 'torch'}"
    assert _run_script(f"import sys, gradspec; print(*{heavy}.intersection(sys.modules))").split() == []


def test_gradspec_offers_what_it_names() -> None:
    """At run time and to type checkers, the same objects."""
    source = (ROOT / "src" / "gradspec" / "__init__.py").read_text(encoding="utf-8")
    typed = {name for _, name in list_imports(source) if name.startswith("gradspec.")}
    assert {name.rpartition(".")[2] for name in typed} == {*gradspec.__all__}
    for name in typed:
        module, _, attribute = name.rpartition(".")
        assert getattr(gradspec, attribute) is getattr(import_module(module), attribute)
    with pytest.raises(AttributeError, match="no attribute 'treble'"):
        _ = gradspec.treble  # type: ignore[attr-defined]


def _run_script(script: str, *arguments: str) -> str:
    """Run the script in a fresh interpreter with the package of this checkout; return what it prints."""
    script = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); {script}"
    command = [sys.executable, "-c", script, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout
