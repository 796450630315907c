"""What the README and the documents show is what happens, and what they name is there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradspec import VJP, Array, Real, op
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.judging.severity import classify_severity
from gradspec.properties.laws.bad_input import what_the_spec_refuses_raises
from gradspec.properties.laws.extremes import extremes_of_elementwise_ops_go_where_the_spec_says
from gradspec.properties.running.failure import BackendLabel, LawViolation
from gradspec.properties.running.profiles import PROFILES
from gradspec.properties.running.targets import MIN_CASES, MIN_INFORMATIVE_SHARE
from gradspec.reference import OPS, record, vjp
from tests.helpers.planting import make_backend_of_ops, make_backend_of_rules
from tests.helpers.pytest_runs import ROOT, make_environment, run_properties

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "examples/README.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def find_block(text: str, beginning: str) -> str:
    """The block of code that begins so, without its fence."""
    (block,) = re.findall(rf"```\w*\n({re.escape(beginning)}.*?)```", text, re.DOTALL)
    return str(block)


@pytest.mark.rotating
def test_the_kernel_fails_as_shown(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "my_kernels.py").write_text(
        find_block(read("README.md"), "# my_kernels.py\n"), encoding="utf-8"
    )
    run = run_properties(tmp_path, "--backend=my_kernels:backend", "--hypothesis-profile=default")
    shown = find_block(read("README.md"), "wrong  silu on my-kernels (cpu) breaks a law")
    assert shown in run.output
    assert f"--backend {'my_kernels:backend'}" in read("README.md")


def test_the_kernel_passes_once_it_is_mended(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    kernel = find_block(read("README.md"), "# my_kernels.py\n")
    (tmp_path / "my_kernels.py").write_text(
        kernel.replace("(1 + x - s)", "(1 + x * (1 - s))"), encoding="utf-8"
    )
    assert run_properties(tmp_path, "--backend=my_kernels:backend").status == 0


@pytest.mark.rotating
@pytest.mark.parametrize("is_mended", [False, True])
def test_the_test_of_four_lines_fails_until_the_kernel_is_mended(tmp_path: Path, is_mended: bool) -> None:
    pytest.importorskip("torch")
    kernel = find_block(read("README.md"), "# my_kernels.py\n")
    kernel = kernel.replace("(1 + x - s)", "(1 + x * (1 - s))") if is_mended else kernel
    (tmp_path / "my_kernels.py").write_text(kernel, encoding="utf-8")
    test = find_block(read("README.md"), "# test_my_kernels.py\n")
    (tmp_path / "test_my_kernels.py").write_text(test, encoding="utf-8")
    status, output = run_tests(tmp_path)
    assert status == (not is_mended), output
    assert ("the gradient of x is 0.25, expected 0.5" in output) != is_mended


@pytest.mark.rotating
def test_the_tests_of_verify_pass_as_shown(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    test = find_block(read("docs/verify.md"), "# test_my_norms.py\n")
    test += find_block(read("docs/verify.md"), "@gradspec.parametrize(")
    (tmp_path / "test_my_norms.py").write_text(test, encoding="utf-8")
    shutil.copy(ROOT / "examples" / "test_suite" / "my_kernels.py", tmp_path / "my_norms.py")
    status, output = run_tests(tmp_path)
    assert status == 0, output


@pytest.mark.rotating
def test_the_tests_by_functions_of_torch_pass_as_shown(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    shutil.copy(ROOT / "tests" / "verifying" / "eager.py", tmp_path / "eager.py")
    test = find_block(read("docs/verify.md"), "# test_my_fused.py\n")
    (tmp_path / "test_my_fused.py").write_text(test, encoding="utf-8")
    (tmp_path / "my_fused.py").write_text(
        "import eager\n\n\n"
        "class Mlp:\n    apply = staticmethod(eager.make_mlp())\n\n\n"
        "class Loss:\n    apply = staticmethod(eager.fused_loss)\n",
        encoding="utf-8",
    )
    status, output = run_tests(tmp_path)
    assert status == 0, output
    assert "2 passed" in output
    right = (tmp_path / "my_fused.py").read_text(encoding="utf-8")
    wrong = right.replace("eager.make_mlp()", "eager.wrong_mlp")
    (tmp_path / "my_fused.py").write_text(wrong, encoding="utf-8")
    status, output = run_tests(tmp_path)
    assert status == 1, output
    assert "the gradient of b1 at" in output


def run_tests(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--hypothesis-seed=1"]
    done = subprocess.run(
        command, cwd=folder, env=make_environment(), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.rotating
@pytest.mark.parametrize("is_mended", [False, True])
def test_the_op_of_ones_own_is_verified_as_shown(tmp_path: Path, is_mended: bool) -> None:
    pytest.importorskip("torch")
    source = find_block(read("docs/backends.md"), "# my_norm.py\n")
    if is_mended:
        wrong, right = (
            "g * weight * scale",
            "scale * (g * weight - xhat * (g * weight * xhat).mean(-1, keepdim=True))",
        )
        assert wrong in source
        source = source.replace(wrong, right)
    (tmp_path / "my_norm.py").write_text(source, encoding="utf-8")
    options = ("--backend=my_norm:backend", "--op=rms_norm", "--hypothesis-profile=default")
    assert f"$ gradspec verify {' '.join(o.replace('=', ' ') for o in options[:2])}" in read(
        "docs/backends.md"
    )
    run = run_properties(tmp_path, *options, "-k", "gradient_agrees or value or spec_agrees or many_elements")
    assert run.status == (not is_mended), run.output
    assert ("wrong  my_norm:rms_norm on my-norm (cpu) breaks a law" in run.output) != is_mended


def test_a_failure_is_shown_as_in_the_documents() -> None:
    def divide(x: Any, y: Any) -> VJP:
        return x / y, (lambda g: g / y, lambda g: -g * x / (y * y))

    backend = make_backend_of_rules(divide=divide)
    case = Case.of("divide", "float32", [1e20, 1e20], {}, 1)
    law = extremes_of_elementwise_ops_go_where_the_spec_says
    label = BackendLabel("mine", "cpu", "mine:backend")
    violation = LawViolation(law, label, case, judge_case(law, backend, case))
    (script,) = (path.name for path in violation.format_files(Path()) if path.suffix == ".py")
    shown = find_block(read("docs/failures.md"), "edge  divide on mine")
    assert shown == f"{violation.as_text()}\n  reproduce: python failures/{script}\n"


def test_what_is_accepted_and_should_not_be_is_shown_as_in_the_documents() -> None:
    def swiglu(x: Real, gate: Real) -> Array:
        return x * gate / (1 + np.exp(-gate))

    declared = op("(*b,n),(*b,n)->(*b,n)")(swiglu)
    try:
        broadcasting = record(lambda x, y: (x * y / (1 + np.exp(-y)), (lambda g: g, lambda g: g)))
        backend = make_backend_of_ops({declared.address: broadcasting})
        case = Case.of(declared.address, "float64", [np.ones((3, 2)), np.ones(2)], {}, np.ones((3, 2)))
        judgement = judge_case(what_the_spec_refuses_raises, backend, case)
        severity = classify_severity(what_the_spec_refuses_raises, case, judgement)
    finally:
        del OPS[declared.address]
    shown = find_block(read("docs/failures.md"), "lax  my_ops:swiglu on mine")
    assert shown.startswith(f"{severity}  ")
    assert f" cases: {judgement.reason}; python failures/" in shown


@pytest.mark.parametrize(
    ("formula", "is_refused"),
    [(lambda x: x.mean(), False), (lambda x: np.mean(x, axis=-1), False), (lambda x: x.mean(axis=-1), True)],
)
def test_methods_of_a_formula_are_those_that_are_the_same_in_torch(formula: Any, is_refused: bool) -> None:
    """So docs/backends.md says, with these calls."""
    if is_refused:
        with pytest.raises(TypeError, match="'axis'"):
            vjp(formula, np.ones((2, 3)))
    else:
        vjp(formula, np.ones((2, 3)))


def test_gradcheck_passes_a_gradient_of_zeros() -> None:
    torch = pytest.importorskip("torch")

    class SmallSine(torch.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            return 1e-6 * torch.sin(x)

        @staticmethod
        def backward(ctx, g):  # type: ignore[no-untyped-def]
            return torch.zeros_like(g)

    assert torch.autograd.gradcheck(
        SmallSine.apply, torch.linspace(0, 3, 7, dtype=torch.float64, requires_grad=True)
    )


def test_the_examples_of_a_profile_are_those_it_has() -> None:
    quick, default, deep = PROFILES["quick"], PROFILES["default"], PROFILES["deep"]
    assert f"| {quick}, {default} or {deep} examples of each property" in read("README.md")


def test_a_property_fails_that_could_tell_too_little_as_the_readme_says() -> None:
    assert (MIN_CASES, MIN_INFORMATIVE_SHARE) == (100, 0.1)
    sentence = "a property of a hundred cases or more fails if less than a tenth of them could"
    assert sentence in " ".join(read("README.md").split())


def test_every_option_is_in_the_table() -> None:
    options = re.findall(r'\badd\(\s*"(--[\w-]+)"', read("properties/running/options.py"))
    assert len(options) > 8
    assert [option for option in options if f"`{option}" not in read("README.md")] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_names_is_there(document: str) -> None:
    assert find_what_is_missing(document, read(document)) == []


@pytest.mark.parametrize(
    "text",
    [
        "`make verfy`",
        "[a](docs/nowhere.md)",
        "[a](docs/nowhere.md#at-all)",
        "[a](docs/backends.md#nowhere)",
        "`tests/faults/no_such.py`",
        "`python -m asv_bench.tools.nothing`",
        "`laws/none.py`",
    ],
)
def test_what_is_not_there_is_found(text: str) -> None:
    assert find_what_is_missing("README.md", text)


def list_anchors(path: Path) -> list[str]:
    """The anchors that GitHub makes of the headings of a document; none if it does not exist."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def find_what_is_missing(document: str, text: str) -> list[str]:
    """Targets of make, files and modules that a document names and that do not exist."""
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = re.findall(r"(?:^\$ |`)make ((?:[a-z-]+ ?)+)", text, re.MULTILINE)
    missing = [f"make {target}" for words in named for target in words.split() if target not in targets]
    folders = [
        ROOT,
        (ROOT / document).parent,
        ROOT / "properties",
        ROOT / "asv_bench",
        ROOT / "tests/backends/cupy",
        ROOT / "backends/cupy",
    ]
    folders += [ROOT / "backends/cupy/kernels", ROOT / "tests/faults"]
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    links_to_headings = re.findall(r"\]\(([^)#:]+)#([^)]+)\)", text)
    paths = [
        path
        for path in re.findall(r"`([\w/.]+\.(?:py|cu|h|md))`", text)
        if not re.search(r"NAME|my_|foo", path)
    ]
    missing += [
        f"{path}#{anchor}"
        for path, anchor in links_to_headings
        if anchor not in list_anchors((ROOT / document).parent / path)
    ]
    missing += [path for path in (*links, *paths) if not any((folder / path).exists() for folder in folders)]
    modules = re.findall(r"python -m (asv_bench[\w.]+|tests[\w.]+)", text)
    return missing + [m for m in modules if not (ROOT / f"{m.replace('.', '/')}.py").exists()]
