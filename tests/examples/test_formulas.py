"""The formulas of `examples/formulas`: each agrees with PyTorch's own function, and verifies it."""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradspec
from gradspec.reference import OPS, Op
from gradspec.reference.calls import SeededChoices
from gradspec.reference.domains import Interval
from gradspec.reference.usual_formulas import fill_moderately
from tests.helpers.pytest_runs import ROOT

torch = pytest.importorskip("torch")

from tests.examples.flash_attention import make_attention  # noqa: E402 - needs torch

F: Any = torch.nn.functional

MAX_LINES = 10
NAME = "kernel_formulas"


def rotate(x: Any, cos: Any, sin: Any) -> Any:
    left, right = x.chunk(2, -1)
    return x * torch.cat([cos, cos], -1) + torch.cat([-right, left], -1) * torch.cat([sin, sin], -1)


def attend(q: Any, k: Any, v: Any) -> Any:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


TORCH: dict[str, Callable[..., Any]] = {
    "rms_norm": lambda x, weight, *, eps=1e-6: F.rms_norm(x, weight.shape, weight, eps),
    "group_norm": lambda x, weight, bias, *, groups: torch.group_norm(x, groups, weight, bias),
    "swiglu": lambda gate, up: F.silu(gate) * up,
    "rope": rotate,
    "causal_attention": attend,
    "cross_entropy": lambda x, target, *, smoothing=0.0: F.cross_entropy(
        x, target, label_smoothing=smoothing
    ),
    "embedding": lambda weight, index: F.embedding(index, weight),
    "gather": lambda x, index: torch.gather(x, -1, index),
    "scatter_add": lambda x, index, source: torch.scatter_add(x, 0, index, source),
    "cumsum": lambda x, *, axis: torch.cumsum(x, axis),
    "conv2d": F.conv2d,
}

ROUNDED_IN_16_BITS = ("embedding", "conv2d", "causal_attention")
"""PyTorch adds up their gradients in 16 bits on the CPU, where sums of ones stop growing at 256."""


@pytest.fixture(scope="module")
def formulas() -> Iterator[Any]:
    """The module of the formulas; no other test knows of its ops."""
    before = dict(OPS)
    spec = importlib.util.spec_from_file_location(NAME, ROOT / "examples" / "formulas" / f"{NAME}.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[NAME]
    OPS.clear()
    OPS.update(before)


def test_each_is_an_op_and_no_other_is(formulas: Any) -> None:
    assert {name for name, thing in vars(formulas).items() if isinstance(thing, Op)} == {*TORCH}


@pytest.mark.parametrize("name", TORCH)
def test_a_formula_agrees_with_torch(formulas: Any, name: str) -> None:
    op = getattr(formulas, name)
    for seed in range(12):
        call = op.draw_call(SeededChoices(seed, (1, 2, 3, 5)))
        wide = [fill_moderately(op.domain(i), s, seed + 5 * i) for i, s in enumerate(call.shapes)]
        inputs = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in wide]
        differentiable = op.differentiable_arguments(len(inputs))
        leaves = [torch.tensor(x, requires_grad=i in differentiable) for i, x in enumerate(inputs)]
        expected = TORCH[name](*leaves, **call.keywords)
        g = fill_moderately(Interval(), tuple(expected.shape), seed).astype(np.float64)
        expected.backward(torch.tensor(g))
        with np.errstate(all="ignore"):  # the mean of no targets
            value, pull = op.rule(*inputs, **call.keywords)
            gradients = pull(g)
        np.testing.assert_allclose(value, expected.detach(), rtol=1e-12, atol=1e-12)
        for i in differentiable:
            np.testing.assert_allclose(gradients[i], leaves[i].grad, rtol=1e-12, atol=1e-12)


def test_a_formula_is_short(formulas: Any) -> None:
    for name in {*TORCH, "attend", "draw_convolution"}:
        thing: Any = getattr(formulas, name)
        lines, _ = inspect.getsourcelines(inspect.unwrap(getattr(thing, "formula", thing)))
        assert len(lines) <= MAX_LINES, name


@pytest.mark.rotating
@pytest.mark.parametrize("name", [name for name in TORCH if name != "causal_attention"])
def test_what_torch_has_is_verified_by_a_formula(formulas: Any, name: str) -> None:
    """But for its attention, of which a row with a NaN becomes 0."""
    dtypes = ["float64", "float32"] if name in ROUNDED_IN_16_BITS else None
    report = gradspec.verify(TORCH[name], getattr(formulas, name), seed=0, dtypes=dtypes)
    assert report.informative > 0.7


@pytest.mark.rotating("flash attention")
def test_a_right_flash_attention_is_not_accused(formulas: Any) -> None:
    """Its backward pass loses digits where scores are large, as the formula beside the stable one does."""
    report = gradspec.verify(make_attention(), formulas.causal_attention, seed=0, nests=False)
    assert report.informative > 0.9


@pytest.mark.rotating("flash attention")
@pytest.mark.parametrize("fault", [{"adds_up_groups": False}, {"scales": False}])
def test_a_fault_in_the_keys_of_flash_attention_is_found(formulas: Any, fault: dict[str, bool]) -> None:
    with pytest.raises(AssertionError, match=r"wrong  kernel_formulas:causal_attention[^|]*gradient of k"):
        gradspec.verify(make_attention(**fault), formulas.causal_attention, seed=0, nests=False)
