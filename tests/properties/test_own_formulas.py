"""Formulas declared in a module of somebody's own, judged on torch: right kernels pass, wrong ones do not.

Value, gradients and second derivatives, in four dtypes.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from gradspec.backends import Backend, load
from gradspec.backends.addresses import find_op
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.program_ops import ProgramOps, classify_ops
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.second_order import make_moderate, second_derivatives_agree
from gradspec.properties.laws.shape_and_dtype import shapes_and_dtypes_are_kept
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.failure import LawViolation
from tests.helpers.planting import find_violation

MODULE = """
import numpy as np

from gradspec.reference import op
from gradspec.reference.domains import Fixed, Real, Wide, below


@op("(*b,n),(n)->(*b,n)", eps=[1e-6, 1e-2])
def rms_norm(x: Real, weight: Real, *, eps: float = 1e-6):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


@op("(*b,n),(*b,n)->(*b,n)")
def swiglu(x: Real, gate: Real):
    return x * gate / (1 + np.exp(-gate))


@op("(*b,s,n),(s,n),(s,n)->(*b,s,n)")
def rope(x: Real, cos: Fixed, sin: Fixed):
    half = x.shape[-1] // 2
    return x * cos + np.roll(np.concat([x[..., :half], -x[..., half:]], axis=-1), -half, axis=-1) * sin


@op("(*b,n),(n)->(*b,n)")
def scaled_sine(x: Real, weight: Wide):
    return np.sin(x) * weight


@op("(v,d),(*b)->(*b,d)")
def embedding(weight: Real, index: below("v", spare=-1)):
    return np.where(index[..., None] == -1, 0, weight[np.maximum(index, 0)])
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path: Path, restored_registry: None) -> Iterator[None]:
    """Import the module from a folder outside the repository."""
    path = tmp_path / "my_kernels.py"
    path.write_text(MODULE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("my_kernels", path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules["my_kernels"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield
    del sys.modules["my_kernels"]


def compute_in_float32(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Return the kernel as libraries have it: 16-bit floats are computed in float32 and rounded once."""

    def wide(x: torch.Tensor, *others: torch.Tensor, **keywords: Any) -> torch.Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        widened = (y.to(dtype) if y.is_floating_point() else y for y in (x, *others))
        result: torch.Tensor = kernel(*widened, **keywords)
        return result.to(x.dtype)

    return wide


def rms_norm(x: Any, weight: Any, *, eps: float = 1e-6, spoil: Callable[[Any], Any] = lambda x: x) -> Any:
    return x * torch.rsqrt(spoil((x * x).mean(-1, keepdim=True)) + eps) * weight


def swiglu(x: Any, gate: Any) -> Any:
    return x * F.silu(gate)


def rope(x: Any, cos: Any, sin: Any) -> Any:
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def embedding(weight: Any, index: Any) -> Any:
    return torch.where(index[..., None] < 0, 0, weight[index.clamp(min=0)])


class SwigluWithAWrongSlope(torch.autograd.Function):
    """Its slope is s (1 + gate s), without the 1 - s."""

    @staticmethod
    def forward(ctx: Any, x: Any, gate: Any) -> Any:
        ctx.save_for_backward(x, gate)
        return swiglu(x, gate)

    @staticmethod
    def backward(ctx: Any, *gs: Any) -> Any:
        x, gate = ctx.saved_tensors
        s = torch.sigmoid(gate)
        return gs[0] * gate * s, gs[0] * x * s * (1 + gate * s)


class RopeTurnedTheSameWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, cos: Any, sin: Any) -> Any:
        ctx.save_for_backward(cos, sin)
        return rope(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gs: Any) -> Any:
        return rope(gs[0], *ctx.saved_tensors), None, None


class SwigluWithoutSecondDerivative(SwigluWithAWrongSlope):
    """Its first derivatives are right, and constants."""

    @staticmethod
    def backward(ctx: Any, *gs: Any) -> Any:
        x, gate = (a.detach().requires_grad_() for a in ctx.saved_tensors)
        with torch.enable_grad():
            return torch.autograd.grad(swiglu(x, gate), (x, gate), gs[0].detach())


def rms_norm_of_a_constant_mean(x: Any, weight: Any, *, eps: float = 1e-6) -> Any:
    return rms_norm(x, weight, eps=eps, spoil=lambda mean: mean.detach())


def rms_norm_without_eps(x: Any, weight: Any, *, eps: float = 1e-6) -> Any:
    return rms_norm(x, weight, eps=1e-6)


def rope_by_one_too_few(x: Any, cos: Any, sin: Any) -> Any:
    return rope(x, cos, torch.cat([sin[..., :-1], torch.zeros_like(sin[..., -1:])], -1))


def embedding_of_the_ignored(weight: Any, index: Any) -> Any:
    return weight[index.clamp(min=0)]


def scaled_sine(x: Any, weight: Any) -> Any:
    assert weight.dtype == torch.promote_types(x.dtype, torch.float32)
    return (torch.sin(x.to(weight.dtype)) * weight).to(x.dtype)


class ScaledSineWithASmallGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any) -> Any:
        ctx.save_for_backward(x, weight)
        return scaled_sine(x, weight)

    @staticmethod
    def backward(ctx: Any, *gs: Any) -> Any:
        x, weight = (a.detach().requires_grad_() for a in ctx.saved_tensors)
        with torch.enable_grad():
            d, e = torch.autograd.grad(scaled_sine(x, weight), (x, weight), gs[0])
        return d, e / 1.05


RIGHT: dict[str, Callable[..., Any]] = {
    "rms_norm": rms_norm,
    "swiglu": swiglu,
    "rope": rope,
    "embedding": embedding,
    "scaled_sine": scaled_sine,
}
WRONG: list[tuple[str, Callable[..., Any], Any]] = [
    ("rms_norm", rms_norm_of_a_constant_mean, every_gradient_agrees),
    ("rms_norm", rms_norm_without_eps, value_agrees),
    ("swiglu", SwigluWithAWrongSlope.apply, every_gradient_agrees),
    ("swiglu", SwigluWithoutSecondDerivative.apply, second_derivatives_agree),
    ("rope", RopeTurnedTheSameWayBack.apply, every_gradient_agrees),
    ("rope", rope_by_one_too_few, value_agrees),
    ("embedding", embedding_of_the_ignored, value_agrees),
    ("scaled_sine", ScaledSineWithASmallGradient.apply, every_gradient_agrees),
]


def make_backend(name: str, kernel: Callable[..., Any]) -> Backend:
    kernel = kernel if name == "scaled_sine" else compute_in_float32(kernel)
    return replace(load("torch"), name="mine", ops={name: kernel}, known={})


def find(law: Any, backend: Backend) -> LawViolation | None:
    if law is not second_derivatives_agree:
        return find_violation(law, backend)

    def check_moderate(backend: Backend, case: Any) -> Any:
        return law(backend, make_moderate(case))

    return find_violation(check_moderate, backend, max_elements=40, cases_per_example=2)


@pytest.mark.parametrize(
    "law", [value_agrees, every_gradient_agrees, second_derivatives_agree, shapes_and_dtypes_are_kept]
)
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_kernel_passes(name: str, law: Any) -> None:
    assert find_op(name).formula is not None
    assert (violation := find(law, make_backend(name, RIGHT[name]))) is None, violation


@pytest.mark.parametrize(("name", "kernel", "law"), WRONG)
def test_a_wrong_kernel_is_found(name: str, kernel: Any, law: Any) -> None:
    assert find(law, make_backend(name, kernel)) is not None


def test_a_case_of_mixed_dtypes_is_written_down_as_it_is() -> None:
    case = Case.of("scaled_sine", "bfloat16", [[1.0, 2.0], [0.1, 0.7]], {}, [1.0, 1.0])
    assert [x.dtype.name for x in case.inputs] == ["bfloat16", "float32"]
    assert case.inputs[1].tolist() == [np.float32(0.1), np.float32(0.7)]
    assert case.map_float_arrays(lambda x: x.astype(np.longdouble)).inputs[1].dtype == np.longdouble
    again = eval(case.as_python(), {"Case": Case, "np": np})
    assert [x.tolist() for x in again.inputs] == [x.tolist() for x in case.inputs]
    assert [x.dtype for x in Case.of("scaled_sine", "float64", [[1.0], [2.0]], {}, [1.0]).inputs] == [
        np.float64
    ] * 2


def test_programs_leave_out_what_takes_floats_without_a_gradient() -> None:
    """There any array may be computed from the inputs, and a library would carry a gradient on."""
    assert classify_ops([find_op("rope").address]) == ProgramOps()
    assert classify_ops([find_op("swiglu").address]) != ProgramOps()
