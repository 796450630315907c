"""Does it matter how inputs and cotangents lie in memory?

Does not see: what is wrong in every layout alike; layouts that `from_numpy` of the backend copies into order,
or that only results of ops have; values computed without vjp, of an op that has a gradient.
"""

from dataclasses import replace

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import run_on_backend
from gradspec.properties.judging.judge import Judge, Judgement, combine_judgements


def layout_makes_no_difference(backend: Backend, case: Case) -> Judgement:
    """Judge whether value and gradients are what the backend itself gives for arrays in C order."""
    judge = Judge(case)
    expected = run_on_backend(backend, replace(case, layouts=()))
    got = run_on_backend(backend, case)
    value = judge.judge("value", got.value, lambda r: r.value, expected=expected.value)
    gradients = [
        judge.judge(f"gradient of {n}", d, lambda r, n=n: r.gradients[n], expected=expected.gradients[n])  # type: ignore[misc]
        for n, d in got.gradients.items()
    ]
    return combine_judgements([value, *gradients])
