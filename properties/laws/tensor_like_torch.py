"""Is the spec's `Tensor` a small `torch.Tensor`?

Each program text runs on both and must observe the same.

Does not see: what none of the nine programs does; dtypes (all arrays are float64, and those of results are
not compared); messages of errors; differences below 256 eps of the largest number in an array (of 1, if that
is larger).
"""

import importlib
import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import gradspec.reference as spec
from gradspec.backends import Backend
from gradspec.properties.cases.literals import format_assignments
from gradspec.properties.cases.reproducible import ReprCase
from gradspec.properties.judging.judge import ALLOWED_FACTOR, Judgement
from gradspec.properties.judging.judgement import Severity
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"

MAX_ROUNDINGS = 64  # roundings that a number may have gone through

TensorProgram = Callable[[Any, Array, Array], list[Any]]
"""From a namespace (torch, or the spec) and two float64 matrices of one shape to the observations."""


def requires_grad_spreads(xp: Any, a: Array, b: Array) -> list[Any]:
    x, y = xp.tensor(a, requires_grad=True), xp.tensor(b)
    z, w = x * y + 1, y.exp() - y
    with xp.no_grad():
        u = x * 2
    return [t.requires_grad for t in (x, y, z, w, u, z.detach())] + [
        t.is_leaf for t in (x, y, z, w, u, z.detach())
    ]


def gradients_accumulate(xp: Any, a: Array, b: Array) -> list[Any]:
    x, y = xp.tensor(a, requires_grad=True), xp.tensor(b, requires_grad=True)
    first = (x * y).sum()
    first.backward()
    once = x.grad.clone()
    (x.tanh() * y).sum(dim=0).sum().backward()
    return [first, once, x.grad, y.grad, x.grad.requires_grad]


def one_input_is_used_many_times(xp: Any, a: Array, b: Array) -> list[Any]:
    x, y = xp.tensor(a, requires_grad=True), xp.tensor(b)
    left, right = x.sin() * y, x - y
    (left * right + left + x * x).sum().backward()
    return [x.grad, y.grad]


def leaves_share_a_cotangent(xp: Any, a: Array, b: Array) -> list[Any]:
    x, y = xp.tensor(a, requires_grad=True), xp.tensor(b, requires_grad=True)
    (x + y).backward(xp.tensor(b))
    with xp.no_grad():
        x.grad.add_(1)
    return [x.grad, y.grad]


def leaves_are_updated_in_place(xp: Any, a: Array, b: Array) -> list[Any]:
    x, y = xp.tensor(a, requires_grad=True), xp.tensor(b)
    seen = []
    for _ in range(3):
        loss = ((x - y) * (x - y)).mean()
        loss.backward()
        with xp.no_grad():
            x -= 0.1 * x.grad
            x.grad.zero_()
        seen += [loss, x.detach().clone(), x.requires_grad, x.is_leaf]
    with xp.no_grad():
        x.add_(y)
        x.sub_(y, alpha=0.5)
    return [*seen, x]


def errors_are_errors(xp: Any, a: Array, b: Array) -> list[Any]:
    x, y = xp.tensor(a, requires_grad=True), xp.tensor(b)
    overwritten = x.clone()
    z = overwritten.exp() * overwritten

    def write_to_a_leaf() -> None:
        nonlocal x
        x += 1

    def write_to_what_is_needed() -> None:
        with xp.no_grad():
            overwritten.add_(1)
        z.sum().backward()

    attempts = (
        y.sum().backward,
        write_to_a_leaf,
        write_to_what_is_needed,
        lambda: x.detach().requires_grad_().numpy(),
    )
    return [_raises(RuntimeError, attempt) for attempt in attempts]


def no_grad_ends_with_an_exception(xp: Any, a: Array, b: Array) -> list[Any]:
    x, y = xp.tensor(a, requires_grad=True), xp.tensor(b)
    with suppress(KeyError), xp.no_grad():
        raise KeyError
    z = x * y
    return [z.requires_grad, z.is_leaf]


def shapes_come_and_go(xp: Any, a: Array, b: Array) -> list[Any]:
    x, y = xp.tensor(a, requires_grad=True), xp.tensor(b, requires_grad=True)
    z = (x.T @ y).reshape(-1)[1:].unsqueeze(0).expand(3, -1).permute(1, 0)
    z = (
        z.mean(dim=(0, 1))
        + x.flip(0)[..., -1].logsumexp(dim=0)
        + (y.square().sum(dim=-1, keepdim=True) + 1).sqrt().prod()
    )
    z.backward()
    return [z, x.grad, y.grad, len(x), x.shape, x.ndim, x.numel(), z.item() == float(z.detach())]


def second_order(xp: Any, a: Array, b: Array) -> list[Any]:
    x, y = xp.tensor(a, requires_grad=True), xp.tensor(b)
    (x.tanh() * y * x + x.sin()).sum().backward(create_graph=True)
    g = x.grad
    x.grad = None
    (g * y).sum().backward()
    return [g.detach(), x.grad]


TENSOR_PROGRAMS: dict[str, TensorProgram] = {
    p.__name__: p
    for p in (
        requires_grad_spreads, gradients_accumulate, one_input_is_used_many_times, leaves_share_a_cotangent,
        leaves_are_updated_in_place, errors_are_errors, no_grad_ends_with_an_exception, shapes_come_and_go,
        second_order,
    )
}  # fmt: skip


@dataclass(frozen=True)
class TensorProgramCase(ReprCase):
    """One of the programs, and the seed and shape of its two matrices."""

    dtype: ClassVar[str] = "float64"

    program: str
    seed: int
    shape: tuple[int, int]


def describe_calls(text: TensorProgramCase, _: Callable[[str], str]) -> list[str]:
    """Return the matrices of a program as NumPy literals, and below them its text, of `xp`, the library."""
    a, b = np.random.default_rng(text.seed).standard_normal((2, *text.shape))
    source = inspect.getsource(TENSOR_PROGRAMS[text.program]).rstrip().split("\n")
    return [*format_assignments({"a": a, "b": b}), *(f"# {line}".rstrip() for line in source)]


def program_text_observes_the_same(torch: Backend, text: TensorProgramCase) -> Judgement:
    """Judge whether the spec and torch observe the same facts, and the same numbers up to rounding."""
    program = TENSOR_PROGRAMS[text.program]
    a, b = np.random.default_rng(text.seed).standard_normal((2, *text.shape))
    return compare_observations(
        program(spec, a.copy(), b.copy()), program(importlib.import_module(torch.name), a, b)
    )


def compare_observations(ours: list[Any], theirs: list[Any]) -> Judgement:
    """Judge whether facts are equal, and numbers up to the rounding of the largest number in their array."""
    pairs = zip(map(_convert_observation, ours), map(_convert_observation, theirs), strict=True)
    for i, (x, y) in enumerate(pairs):
        if not isinstance(x, np.ndarray):
            is_same = x == y
        else:
            # At least that of 1: sums of terms of size 1 may cancel.
            unit = np.finfo(y.dtype).eps * np.max(np.abs(y), initial=1)
            is_same = x.shape == y.shape and bool(
                np.all(np.abs(x - y) <= MAX_ROUNDINGS * ALLOWED_FACTOR * unit)
            )
        if not is_same:
            return Judgement("disagree", f"observation {i} is {x} in the spec and {y} in torch")
    return Judgement("agree")


def _convert_observation(x: Any) -> Any:
    """Return a tensor as a NumPy array, a shape as a tuple, anything else as it is."""
    if hasattr(x, "detach"):
        x = x.detach().numpy()
    return tuple(x) if isinstance(x, tuple) else x


def _raises(kind: type[Exception], attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except kind:
        return True
    return False
