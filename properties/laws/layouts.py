"""Does it matter how inputs and cotangents lie in memory?"""

from dataclasses import replace

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import run_on_backend
from gradspec.properties.judging.judge import Judge, Judgement, combine_judgements


def layout_makes_no_difference(backend: Backend, case: Case) -> Judgement:
    """Value and gradients are what the backend itself gives for arrays in order, in whatever layouts it gets them."""
    judge, expected, got = (
        Judge(case),
        run_on_backend(backend, replace(case, layouts=())),
        run_on_backend(backend, case),
    )
    value = judge.judge("value", got.value, lambda r: r.value, expected=expected.value)
    gradients = [
        judge.judge(f"gradient of {n}", d, lambda r, n=n: r.gradients[n], expected=expected.gradients[n])  # type: ignore[misc]
        for n, d in got.gradients.items()
    ]
    return combine_judgements([value, *gradients])
