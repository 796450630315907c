"""Does it matter how inputs and cotangents lie in memory?

Does not see: what is wrong in every layout alike; layouts that `from_numpy` of the backend copies into order,
or that only results of ops have; values computed without vjp, of an op that has a gradient.
"""

from dataclasses import replace

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import Result, run_on_backend
from gradspec.properties.judging.judge import Judge, Judgement, combine_judgements
from gradspec.properties.judging.judgement import Severity

SEVERITY: Severity = "wrong"


def layout_makes_no_difference(backend: Backend, case: Case) -> Judgement:
    """Judge whether value and gradients are what the backend itself gives for arrays in C order."""
    expected = run_on_backend(backend, replace(case, layouts=()))
    got = run_on_backend(backend, case)
    # In most cases they are the same bit for bit, and nothing needs to be computed.
    if _are_equal(got, expected):
        return Judgement(
            "agree", informative=any(map(np.any, (expected.value, *expected.gradients.values())))
        )
    judge = Judge(case)
    value = judge.judge("value", got.value, lambda r: r.value, expected=expected.value)
    gradients = [
        judge.judge(f"gradient of {n}", d, lambda r, n=n: r.gradients[n], expected=expected.gradients[n])  # type: ignore[misc]
        for n, d in got.gradients.items()
    ]
    return combine_judgements([value, *gradients])


def every_layout_in_turn_makes_no_difference(backend: Backend, case: Case) -> Judgement:
    """Judge the same of cases in which each array in turn lies in every layout."""
    return layout_makes_no_difference(backend, case)


def _are_equal(got: Result, expected: Result) -> bool:
    """Return whether two results are the same bit for bit, and finite."""
    return all(
        x.shape == y.shape and np.array_equal(x, y) and bool(np.all(np.isfinite(x)))
        for x, y in zip(
            (got.value, *got.gradients.values()), (expected.value, *expected.gradients.values()), strict=True
        )
    )
