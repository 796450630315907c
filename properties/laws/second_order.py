"""Are second derivatives right: can a pullback be differentiated, by the inputs and by its cotangent?

Does not see: anything at kinks; in ops that combine elements, numbers other than 0 and those of sizes from
1/2 to 2, in others numbers whose squares over- or underflow; an error that vanishes along the one direction v
that each shape is tried with, or that is no larger than roundings of the first derivative, which weigh more
next to a kink; third derivatives.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of, exact_dtype
from gradspec.properties.cases.evaluate import bind_constants
from gradspec.properties.cases.filling import fill_case, fill_cotangent
from gradspec.properties.cases.literals import format_as_numpy, format_briefly
from gradspec.properties.judging.judge import (
    Judge,
    Judgement,
    combine_judgements,
    get_spec_backend,
    make_spec_judge,
)
from gradspec.properties.judging.judgement import Severity
from gradspec.reference import Op
from gradspec.reference.arrays import unbroadcast
from gradspec.reference.calls import SeededChoices
from gradspec.reference.domains import Interval
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"
ORDINARY_POWER = 4
"""Sizes are ordinary here if this power of them is a number: 1/x differentiated as -1/x^2 divides by x^4."""

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

    The direction v looks random; for one element it is 1. The judgement is informative if the derivative by
    an input is not zero throughout; for an op that has no such derivatives, if the derivative by the
    cotangent is not. By symmetry a derivative by x is the derivative along v of the gradient of x,
    g P / x^2 v for instance, and is allowed the rounding of a number of the size of g P / x times v / x even
    where such numbers cancel, as they do in that of g x / |x|, the gradient of |x|. Next to a kink x may be
    small; elsewhere such a number is taken for moderate. In float16 an elementwise op is allowed that of g v,
    too: noise would be measured from numbers that nearly vanish there, and tell nothing.
    """
    exact = make_spec_judge(
        case.dtype,
        lambda spec, convert: compute_second_derivatives(spec, case, convert),
        [case.op.address],
    )
    got, first = compute_second_derivatives(backend, case), Judge(case).exact.gradients
    wrt = case.differentiable_inputs
    by_inputs: list[Judgement] = []
    by_cotangent: list[Judgement] = []
    for k, second in enumerate(got):
        direction = make_direction(case.dtype, case.inputs[wrt[k]].shape)
        along = " along v" if direction.size > 1 else ""
        for name, d in second.derivatives.items():
            what = f"derivative by {name} of the gradient of {second.argument}{along}"
            part = lambda e, k=k, name=name: e[k].derivatives[name]
            scale = _bound_cancelled(case, wrt[k], first[name]) if name in first else 0
            if case.dtype == "float16" and case.op.elementwise and d.shape == case.cotangent.shape:
                scale = np.maximum(scale, np.abs(case.cotangent * make_direction(case.dtype, d.shape)))
            judgement = _name_direction(exact.judge(what, d, part, scale=scale), direction)
            (by_cotangent if name == COTANGENT_NAME else by_inputs).append(judgement)
    whole = combine_judgements(by_inputs + by_cotangent)
    deciding = combine_judgements(by_inputs if has_second_derivatives(case.op) else by_cotangent)
    return replace(whole, informative=deciding.informative)


def second_derivatives_of_every_size_agree(backend: Backend, case: Case) -> Judgement:
    """Judge the same of an elementwise op at numbers of every size."""
    return second_derivatives_agree(backend, case)


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


def _bound_cancelled(case: Case, i: int, first: Array) -> Array:
    """Return how large numbers may be that cancel in the derivative of a first derivative along v.

    They are of the size of the first derivative times v / x, x and v those of an input; in an elementwise op
    v / x is counted as it is for large numbers. At a distance d from a kink there is g v / d as well, however
    small d is: relu may be (x + |x|) / 2, of which the gradient is 0 where g and g x / |x| cancel. Where an
    op is smooth, tiny numbers are allowed no more than others: if it is so at 0, no right formula divides by
    them, and near a pole the noise of the spec's own formula says what is lost.

    Args:
        case: The case.
        i: The number of the input.
        first: The first derivative, by this input or another one.
    """
    if not case.op.elementwise:
        return MAX_DIRECTION_TO_INPUT_RATIO * np.abs(first)
    size = np.abs(case.inputs[i].astype(exact_dtype(case.dtype)))
    v = np.abs(make_direction(case.dtype, size.shape).astype(size.dtype))
    with np.errstate(all="ignore"):
        ratios = np.where(size > LARGE_INPUT, v / size, MAX_DIRECTION_TO_INPUT_RATIO)
        bound: Array = _take_largest(ratios, case.cotangent.shape, first.shape) * np.abs(first)
        if case.op.kinks is not None:
            distance = case.compute_kink_distances()[i]
            terms = np.where(distance > 0, np.abs(case.cotangent.astype(size.dtype)) * v / distance, 0)
            bound = np.maximum(bound, unbroadcast(terms, first.shape))
    return bound


def _take_largest(x: Array, whole: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """Return the largest elements of what is broadcast to the shape `whole`, in another shape that is so."""
    wide = np.broadcast_to(x, whole)
    padded = (1,) * (wide.ndim - len(shape)) + shape
    stretched = tuple(k for k, n in enumerate(padded) if n == 1)
    largest: Array = np.max(wide, axis=stretched, keepdims=True, initial=0).reshape(shape)
    return largest


def make_direction(dtype: str, shape: tuple[int, ...]) -> Array:
    """Return a direction that looks random and is always the same, so that a case need not hold it.

    That of one element is 1: the derivative along it is what anybody computes by hand.
    """
    if math.prod(shape) == 1:
        return np.ones(shape, dtype_of(dtype))
    block = np.random.default_rng(len(shape)).integers(0, 256, 64, np.uint8)
    return fill_cotangent(dtype, shape, block)


def _name_direction(judgement: Judgement, v: Array) -> Judgement:
    """Return a judgement that says along which direction a wrong element is wrong, unless that is 1."""
    if judgement.wrong is None or v.size == 1:
        return judgement
    reason = judgement.reason
    if judgement.verdict == "disagree":  # of what is lossy only a line is shown
        reason = f"{reason}\nv = {format_briefly(v)}"
    wrong = replace(judgement.wrong, direction=format_as_numpy(v) or "")
    return replace(judgement, reason=reason, wrong=wrong)


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
        if x.ndim and x.dtype.kind not in "biu":
            x = x.copy()
            np.moveaxis(x, axis % x.ndim, 0)[[0, -1]] = 0
        return x

    return replace(case, inputs=tuple(map(put, case.inputs)))


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
