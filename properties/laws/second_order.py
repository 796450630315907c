"""Are second derivatives right: can a pullback be differentiated, by the inputs and by its cotangent?

Does not see: anything at kinks; in ops that combine elements, numbers other than 0 and those of sizes from
1/2 to 2, in others numbers whose squares over- or underflow; an error that vanishes along the one direction v
that each shape is tried with, or that is no larger than roundings of the first derivative; third derivatives.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, exact_dtype
from gradspec.properties.cases.evaluate import bind_constants
from gradspec.properties.cases.filling import fill_case, fill_cotangent
from gradspec.properties.judging.judge import (
    Judge,
    Judgement,
    combine_judgements,
    get_spec_backend,
    make_spec_judge,
)
from gradspec.properties.judging.judgement import Severity
from gradspec.reference import Op
from gradspec.reference.calls import SeededChoices
from gradspec.reference.domains import Interval
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"

COTANGENT_NAME = "cotangent"
ZERO_THRESHOLD = 1 / 64  # `make_moderate` turns smaller numbers into zeros
MAX_DIRECTION_TO_INPUT_RATIO = 6  # the largest v / x, for moderate inputs x and directions v
LARGE_INPUT = 64.0
"""Above it, v / x itself bounds how far an elementwise op's gradient changes along v, relatively."""


@dataclass(frozen=True)
class SecondDerivatives:
    """The derivatives of one gradient, paired with a fixed direction, by the inputs and the cotangent."""

    argument: str
    derivatives: dict[str, Array]


def second_derivatives_agree(backend: Backend, case: Case) -> Judgement:
    """Judge whether the derivatives of <pullback(g), v> by every input and by g are the spec's.

    The direction v looks random. The judgement is informative if the derivative by an input is not zero
    throughout; for an op that has no such derivatives, if the derivative by the cotangent is not. By symmetry
    a derivative by x is the derivative along v of the gradient of x, g P / x^2 v for instance, and is allowed
    the rounding of a number of the size of g P / x times v / x even where such numbers cancel. In float16 an
    elementwise op is allowed that of g v, too: noise would be measured from numbers that nearly vanish there,
    and tell nothing.
    """
    exact = make_spec_judge(
        case.dtype,
        lambda spec, convert: compute_second_derivatives(spec, case, convert),
        [case.op.name],
    )
    got, first = compute_second_derivatives(backend, case), Judge(case).exact.gradients
    by_inputs: list[Judgement] = []
    by_cotangent: list[Judgement] = []
    for k, second in enumerate(got):
        for name, d in second.derivatives.items():
            what = f"derivative by {name} of the gradient of {second.argument}"
            part = lambda e, k=k, name=name: e[k].derivatives[name]
            scale = _bound_ratios(case, name) * np.abs(first[name]) if name in first else 0
            if case.dtype == "float16" and case.op.elementwise and d.shape == case.cotangent.shape:
                scale = np.maximum(scale, np.abs(case.cotangent * make_direction(case.dtype, d.shape)))
            judgement = exact.judge(what, d, part, scale=scale)
            (by_cotangent if name == COTANGENT_NAME else by_inputs).append(judgement)
    whole = combine_judgements(by_inputs + by_cotangent)
    deciding = combine_judgements(by_inputs if has_second_derivatives(case.op) else by_cotangent)
    return replace(whole, informative=deciding.informative)


def compute_second_derivatives(
    backend: Backend, case: Case, convert: Callable[[Array], Array] = np.copy
) -> list[SecondDerivatives]:
    """Return the derivatives of the gradient of each input, along a direction of the input's shape."""
    wrt = case.differentiable_inputs
    directions = [make_direction(case.dtype, case.inputs[i].shape) for i in wrt]
    case = case.map_float_arrays(convert)
    arrays = [backend.from_numpy(x) for x in case.inputs]
    g = backend.from_numpy(case.cotangent)

    fn = bind_constants(backend, case, arrays, wrt)

    def make_gradient(k: int) -> Callable[..., Any]:
        return lambda *xs_g: backend.vjp(fn, *xs_g[:-1])[1](xs_g[-1])[k]

    names = [*(case.op.argument_name(i) for i in wrt), COTANGENT_NAME]
    seconds = []
    for k, v in enumerate(directions):
        _, pullback = backend.vjp(make_gradient(k), *(arrays[i] for i in wrt), g)
        derivatives = map(backend.to_numpy, pullback(backend.from_numpy(convert(v))))
        seconds.append(SecondDerivatives(names[k], dict(zip(names, derivatives, strict=True))))
    return seconds


def _bound_ratios(case: Case, name: str) -> Array | float:
    """Return how large v / x may be: of large numbers in an elementwise op, how large it is."""
    if not case.op.elementwise:
        return MAX_DIRECTION_TO_INPUT_RATIO
    (x,) = (x for i, x in enumerate(case.inputs) if case.op.argument_name(i) == name)
    size = np.abs(x.astype(exact_dtype(case.dtype)))
    v = np.abs(make_direction(case.dtype, x.shape).astype(size.dtype))
    return np.where(size > LARGE_INPUT, v / np.maximum(size, LARGE_INPUT), MAX_DIRECTION_TO_INPUT_RATIO)


def make_direction(dtype: str, shape: tuple[int, ...]) -> Array:
    """Return a direction that looks random and is always the same, so that a case need not hold it."""
    block = np.random.default_rng(len(shape)).integers(0, 256, 64, np.uint8)
    return fill_cotangent(dtype, shape, block)


def make_moderate(case: Case) -> Case:
    """Return the case with every number between 1/2 and 2 in size, or 0.

    Numbers that are nearly 0 become 0: how a product treats zeros shows only where several of its factors are
    0. Where numbers are of different sizes, how many digits of the second derivative are right depends on the
    formula of the gradient that it is derived from. Those of y (1 - y) and exp(-x) / (1 + exp(-x))^2 agree
    there; but with g P / x, as the gradient of a product P, the derivatives by the other factors are
    differences of large numbers.
    """
    may_vanish = _takes_zeros_smoothly(case.op)

    def scale_to_moderate(x: Array) -> Array:
        wide = x.astype(np.float64)
        if may_vanish:
            wide = np.where(np.abs(wide) < ZERO_THRESHOLD, 0, wide)
        out_of_range = (np.abs(wide) < 1 / 2) | (np.abs(wide) > 2)
        return np.where(out_of_range, np.frexp(wide)[0], wide).astype(x.dtype)

    return case.map_float_arrays(scale_to_moderate)


def put_pairs_of_zeros(case: Case, axis: int) -> Case:
    """Return the case with two zeros along an axis, if its op combines elements and is smooth there.

    Where exactly two factors of a product are 0, its gradient is 0 throughout, and changes with both of them.

    Args:
        case: The case.
        axis: Along which axis the zeros lie, modulo the number of axes of each array.
    """
    if case.op.elementwise or not _takes_zeros_smoothly(case.op):
        return case

    def put(x: Array) -> Array:
        if x.ndim:
            x = x.copy()
            np.moveaxis(x, axis % x.ndim, 0)[[0, -1]] = 0
        return x

    return replace(case, inputs=tuple(put(x) if x.dtype.kind not in "biu" else x for x in case.inputs))


def _takes_zeros_smoothly(op: Op) -> bool:
    return op.kinks is None and all(0.0 in d for d in op.domains if isinstance(d, Interval))


@cache
def has_second_derivatives(op: Op) -> bool:
    """Return whether the derivatives of the op depend on its inputs: in the spec, on a few small cases."""
    for seed in range(6):
        block = np.random.default_rng(seed).integers(0, 256, 64, np.uint8)
        case = fill_case(op, op.draw_call(SeededChoices(seed, (2, 3))), "float64", block)
        seconds = compute_second_derivatives(get_spec_backend(), case)
        if any(np.any(d) for s in seconds for name, d in s.derivatives.items() if name != COTANGENT_NAME):
            return True
    return False
