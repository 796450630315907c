"""Do the cotangents of all values count together, where an op has several values?

All other laws are about one value at a time: with the others unused, zeros stand for their cotangents. Here
every value of floats has a cotangent of its own, and the gradients of sum_k sum(value_k * cotangent_k) are
judged, which the backend computes by its arrays' own `*`, `+` and `sum()`.

Does not see: the values themselves, anything at kinks, extreme numbers, second derivatives, or, of the values
that the case is not about, other cotangents than one for each number and shape that looks random.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gradspec.backends import Backend, call
from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import pull_to_inputs
from gradspec.properties.cases.filling import fill_cotangent
from gradspec.properties.cases.literals import format_briefly
from gradspec.properties.judging.formula_samples import ConvertToPrecision
from gradspec.properties.judging.judge import ComputationJudge, Judgement, combine_judgements
from gradspec.properties.judging.judgement import Severity
from gradspec.reference import Op
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"

MAX_COTANGENTS_SHOWN = 4  # of those of many values


def all_cotangents_count_together(backend: Backend, case: Case) -> Judgement:
    """Judge the gradients for cotangents of all values at once, and whether there are as many values.

    The cotangent of the value that the case is about is the case's own, that of any other looks random.
    """
    whole = case.op.whole
    assert whole is not None
    values = whole.compute_value(*case.inputs, **case.keywords)
    cotangents = make_cotangents(case, list(map(np.asarray, values)))
    arrays, _ = case.to_backend_arrays(backend)
    gs = [None if g is None else backend.from_numpy(g) for g in cotangents]
    wrt, counts = case.differentiable_inputs, list[int]()

    def add_up(*xs: Any) -> Any:
        variables = dict(zip(wrt, xs, strict=True))
        given = [variables.get(i, x) for i, x in enumerate(arrays)]
        results = call(whole, backend.ops[whole.address], given, case.keywords)
        counts.append(len(results))
        terms = [(v * g).sum() for v, g in zip(results, gs, strict=False) if g is not None]
        return sum(terms[1:], start=terms[0])

    _, pullback = backend.vjp(add_up, *(arrays[i] for i in wrt))
    if counts[0] != len(values):
        return Judgement("disagree", f"{whole.name} returns {counts[0]} values, not {len(values)}")
    gradients = pullback(backend.from_numpy(np.ones((), dtype_of(case.dtype))))
    compute, *usual = [
        partial(_compute_spec_gradients, case, cotangents, form) for form in (whole, *whole.usual_forms)
    ]
    judge = ComputationJudge(case.dtype, compute, usual=usual)
    judgements = []
    for i, d in zip(wrt, gradients, strict=True):
        name = case.op.argument_name(i)
        what = f"gradient of {name} for all cotangents together"
        judgements.append(judge.judge(what, backend.to_numpy(d), lambda r, n=name: r[n]))  # type: ignore[misc]
    return _name_cotangents(combine_judgements(judgements), cotangents)


def make_cotangents(case: Case, values: Sequence[Array]) -> list[Array | None]:
    """Return a cotangent for each value, None for one of integers."""
    assert case.op.picked is not None
    own = case.op.picked % len(values)

    def make(k: int, value: Array) -> Array | None:
        if value.dtype.kind in "biu":
            return None
        block = np.random.default_rng([k, value.ndim]).integers(0, 256, 64, np.uint8)
        return case.cotangent if k == own else fill_cotangent(case.dtype, value.shape, block)

    return [make(k, value) for k, value in enumerate(values)]


def _compute_spec_gradients(
    case: Case, cotangents: Sequence[Array | None], whole: Op, convert: ConvertToPrecision
) -> dict[str, Array]:
    converted = case.map_float_arrays(convert)
    values, pullbacks = whole.rule(*converted.inputs, **case.keywords)
    gs = [np.zeros_like(v) if g is None else convert(g) for v, g in zip(values, cotangents, strict=True)]
    return pull_to_inputs(converted, pullbacks, gs)


def _name_cotangents(judgement: Judgement, cotangents: Sequence[Array | None]) -> Judgement:
    """Return a judgement that says which cotangents there are, where something is wrong."""
    if judgement.verdict != "disagree":
        return judgement
    named = [f"{format_briefly(g)} of value {k}" for k, g in enumerate(cotangents) if g is not None]
    shown = ", ".join([*named[:MAX_COTANGENTS_SHOWN], *["..."] * (len(named) > MAX_COTANGENTS_SHOWN)])
    return replace(judgement, reason=f"{judgement.reason}\nthe cotangents: {shown}")
