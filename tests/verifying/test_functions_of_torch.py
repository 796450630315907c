"""`gradspec.verify` by a function of torch: right ones pass, faults are found, what cannot be is told."""

import subprocess
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import pytest

import gradspec
from gradspec.reference import OPS
from tests.helpers.pytest_runs import make_environment

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812 - needs torch

from gradspec.backends import torch_decompositions, torch_operations  # noqa: E402
from gradspec.properties.verifying import torch_rules  # noqa: E402
from tests.verifying import eager  # noqa: E402
from tests.verifying.functions import fail  # noqa: E402

ROWS = "(b,i),(i)->(b,i)"


def verify_right(name: str, **options: Any) -> Any:
    fn, against, shapes, nests = eager.RIGHT[name]
    return gradspec.verify(fn, against, shapes=shapes, nests=nests, **options)


def rotate(names: Iterable[str], but: Collection[str]) -> list[Any]:
    """Names to parametrize by, of which all but some take turns."""
    return [name if name in but else pytest.param(name, marks=pytest.mark.rotating) for name in names]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.rotating)])
@pytest.mark.parametrize("name", rotate(eager.RIGHT, ["loss", "relu"]))
def test_what_is_right_passes(name: str, seed: int) -> None:
    before = {*OPS}
    report = verify_right(name, seed=seed)
    assert report.dtypes == ("float32", "bfloat16", "float16")
    assert report.cases > 150
    assert report.informative > 0.6
    assert report.margin is not None
    assert report.margin < 1
    assert ("second derivatives agree" in report.laws) == eager.RIGHT[name][-1]
    assert {*OPS} == before


@pytest.mark.parametrize("name", rotate(eager.WRONG, ["mlp: the bias gets a mean"]))
def test_a_planted_fault_is_found(name: str) -> None:
    fn, against, shapes = eager.WRONG[name]
    text = fail(fn, against, shapes=shapes, nests=False)
    assert text.startswith(f"wrong  tests.verifying.eager:{against.__name__} on fused (cpu) breaks a law: ")


def test_a_wrong_second_derivative_is_found() -> None:
    def gelu(x: Any) -> Any:
        return F.gelu(x)

    text = fail(eager.FlatGelu.apply, gelu, shapes="(b)->(b)", dtypes=["float32"])
    assert "breaks a law: second derivatives agree" in text


def test_a_formula_that_loses_more_digits_is_wrong() -> None:
    """No usual formula says that it is lossy."""

    def variance(x: Any) -> Any:
        return (x * x).mean(-1) - x.mean(-1) ** 2

    text = fail(variance, lambda x: x.var(-1, correction=0), shapes="(*b,n)->(*b)", dtypes=["float32"])
    assert text.startswith("wrong  ")
    assert "the value" in text


# What the noise is made of: without each part something right is accused.


def accuse(name: str) -> None:
    for seed in range(5):
        try:
            verify_right(name, seed=seed, examples=10)
        except AssertionError:
            return
    pytest.fail(f"{name} is right even without what was taken away")


@pytest.mark.rotating
def test_every_operation_has_to_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the inputs alone."""
    observer = torch_rules.OperationObserver
    monkeypatch.setattr(observer, "round_result", lambda self, result, inputs: result)
    monkeypatch.setattr(observer, "round_sum", lambda self, result, terms, axis: result)
    accuse("norm")


@pytest.mark.rotating
def test_layers_have_to_be_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_operations, "find_decomposition", lambda func: None)
    torch_operations._describe.cache_clear()
    try:
        accuse("mlp")
    finally:
        torch_operations._describe.cache_clear()


@pytest.mark.rotating
def test_attention_may_lose_what_flash_attention_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_decompositions.Roundings, "keep", lambda *_: None)
    accuse("attention")


@pytest.mark.rotating
def test_either_side_of_a_kink_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_operations, "CHOICES", frozenset())
    torch_operations._describe.cache_clear()
    try:
        accuse("relu")
    finally:
        torch_operations._describe.cache_clear()


# What it says


def test_what_is_left_out_is_said() -> None:
    report = verify_right("relu", seed=0, examples=1)
    assert [text.split(":")[0] for text in report.left_out] == [
        "second derivatives agree",
        "gradient at kinks is a legal subgradient",
        "extremes go where the spec says",
        "float64",
        "the reference itself",
        "lossy",
        "what the spec refuses raises",
    ]
    assert not any(text.split(":")[0] in report.laws for text in report.left_out)
    options: Any = {"shapes": "(b)->(b)", "seed": 0, "examples": 1}
    report = gradspec.verify(torch.abs, lambda x: x.abs(), kinks=gradspec.points(0), **options)
    assert "gradient at kinks is a legal subgradient" in report.laws
    assert not any("kinks" in text for text in report.left_out)


def test_a_gradient_at_a_kink_is_judged_where_it_is_told() -> None:
    class Steep(torch.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(x)
            return x.abs()

        @staticmethod
        def backward(ctx, g):  # type: ignore[no-untyped-def]
            (x,) = ctx.saved_tensors
            return g * torch.where(x == 0, 2, x.sign())

    options: Any = {"shapes": "(b)->(b)", "dtypes": ["float32"], "nests": False}
    text = fail(Steep.apply, lambda x: x.abs(), kinks=gradspec.points(0), **options)
    assert "breaks a law: gradient at kinks is a legal subgradient" in text


@pytest.mark.rotating
def test_the_script_of_a_failure_shows_it_again(tmp_path: Path) -> None:
    fail(eager.wrong_mlp, eager.eager_mlp, shapes=eager.MLP_SHAPES, nests=False)
    (script,) = (tmp_path / "failures").glob("*.py")
    command = [sys.executable, str(script)]
    again = subprocess.run(command, env=make_environment(), capture_output=True, text=True, check=False)
    assert again.returncode == 1, again
    assert "the gradient of b1 at" in again.stdout


def test_without_an_address_there_is_no_script(tmp_path: Path) -> None:
    text = fail(torch.sin, lambda x: -torch.cos(x), shapes="(b)->(b)", dtypes=["float32"])
    assert "there is no script, since lambda is a lambda or local, and has no name in a module" in text
    (capsule,) = (tmp_path / "failures").iterdir()
    assert capsule.suffix == ".json"


def _scaled(x, w, scale):  # type: ignore[no-untyped-def]
    return x * w * scale


def test_keywords_are_varied_as_far_as_they_are_told() -> None:
    def fn(x: Any, w: Any, *, scale: float) -> Any:
        return x * w * scale

    assert gradspec.verify(fn, _scaled, shapes=ROWS, keywords={"scale": [1.0, 3.0]}, seed=0, examples=1).cases
    text = fail(lambda x, w, scale: x * w, _scaled, shapes=ROWS, keywords={"scale": [3.0]})
    assert "scale     = 3" in text


# What cannot be a reference


def write_by_operator(x: Any, w: Any) -> Any:
    x *= w
    return x


def write_without_grad(x: Any, w: Any) -> Any:
    with torch.no_grad():
        x.mul_(2)
    return x * w


def refuse_wide(x: Any, w: Any) -> Any:
    if x.dtype == torch.float64:
        raise RuntimeError("no kernel of 64 bits")
    return x * w


@pytest.mark.parametrize(
    ("against", "message"),
    [
        (lambda x, w: F.dropout(x * w, 0.5), "gives another value when it is called again; is there dropout"),
        (lambda x, w: (x * w).detach(), "returns a value without a gradient: it is computed from detached"),
        (lambda x, w: x.detach() * w, "has no gradient by x: .* as in x: gradspec.Fixed"),
        (lambda x, w: None, "returns NoneType; a reference returns a tensor"),
        (lambda x, w: [x * w], "returns list; a reference returns a tensor"),
        (lambda x, w: (x * w, 1), "returns a tuple with int in it"),
        (lambda x, w: (x * w, x), r"returns \(3, 3\), \(3, 3\) for arrays of shapes .* says otherwise"),
        (lambda x, w: (x * w).sum(), r"returns \(\) for arrays of shapes \(3, 3\), \(3,\), where"),
        (write_by_operator, "against=write_by_operator, a function of torch, writes to its arguments"),
        (write_without_grad, "writes to its arguments"),
        (refuse_wide, r"float64 on the CPU, of shapes \(3, 3\), \(3,\): RuntimeError: no kernel of 64 bits"),
        (_scaled, r"needs scale, which is no array .* keywords={'scale': \[...\]} has the values to try"),
        (torch.mul, "what against=mul takes cannot be read"),
        (lambda x: x, "has 2 arrays, of which against=lambda names 1"),
    ],
)
def test_what_cannot_be_a_reference_is_told(against: Callable[..., Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        gradspec.verify(lambda x, w: x * w, against, shapes=ROWS)


def test_float64_and_unknown_keywords_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot tell what is right in float64"):
        gradspec.verify(torch.sin, lambda x: x.sin(), shapes="(b)->(b)", dtypes=["float64"])
    with pytest.raises(TypeError, match="takes no keyword 'eps'; it takes none"):
        gradspec.verify(torch.sin, lambda x: x.sin(), shapes="(b)->(b)", keywords={"eps": [1.0]})
    with pytest.raises(TypeError, match="the function lambda needs the shapes"):
        gradspec.verify(torch.sin, lambda x: x.sin())


def test_annotations_tell_a_function_of_torch_from_a_formula() -> None:
    def by_method(x: gradspec.Real) -> gradspec.Array:
        return x.sin()

    def by_function(x: gradspec.Real) -> gradspec.Array:
        return torch.sin(x)

    def function(x: gradspec.Real) -> torch.Tensor:  # type: ignore[name-defined]
        return x.sin()

    for formula in (by_method, by_function):
        with pytest.raises(TypeError, match=r"a formula in NumPy as its .* annotations, -> torch.Tensor"):
            gradspec.verify(torch.sin, formula, shapes="(b)->(b)")
    assert gradspec.verify(torch.sin, function, shapes="(b)->(b)", seed=0, examples=1).cases


def test_without_torch_there_are_no_functions_of_it() -> None:
    script = (
        "import sys, gradspec, numpy as np\n"
        "try: gradspec.verify(np.sin, lambda x: x, shapes='(b)->(b)')\n"
        "except TypeError as error: print(error)\n"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], env=make_environment(), capture_output=True, text=True, check=True
    )
    message, has_torch = run.stdout.splitlines()
    assert "against=<lambda> is a plain function; allowed are" in message
    assert has_torch == "False"
