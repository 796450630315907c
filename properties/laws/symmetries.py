"""Do ops keep the symmetries that they have: under shifts, another order, another scale?

Does not see: what is wrong and still symmetric, such as a sum that is doubled; symmetries other than the
eight that are tried on the spec; shifts other than by 2, 8 or 1,024, and scales other than 2; changes of
other arrays than the first; ops that only move elements.
"""

from dataclasses import replace

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import Result, run_on_backend
from gradspec.properties.cases.observed.symmetries import is_symmetric, observe_symmetries
from gradspec.properties.cases.symmetries import Change, Symmetry
from gradspec.properties.judging.judge import Judge, Judgement, combine_judgements
from gradspec.properties.judging.judgement import Severity

SEVERITY: Severity = "wrong"


def symmetries_are_kept(backend: Backend, case: Case) -> Judgement:
    """Judge whether a change of x changes the backend's value and gradients as the op's symmetries say.

    Both answers are the backend's own, so that its choices at kinks do not matter. Which symmetries the op
    has was observed on other cases: before a backend is called wrong, the spec must have it on this one.
    """
    judgements: list[Judgement] = []
    results_before: dict[Change, Result] = {}  # several symmetries start from the same case
    for symmetry in observe_symmetries(case.op):
        if symmetry.applies_to(case):
            case_before = symmetry.prepare_case(case)
            if symmetry.prepare not in results_before:
                results_before[symmetry.prepare] = run_on_backend(backend, case_before)
            before = results_before[symmetry.prepare]
            judgements.append(_judge_symmetry(backend, case, symmetry, case_before, before))
    return combine_judgements(judgements)


def _judge_symmetry(
    backend: Backend, case: Case, symmetry: Symmetry, case_before: Case, before: Result
) -> Judgement:
    """Judge one symmetry: compare the result after the change with the one before, changed accordingly."""
    case_after = symmetry.change_case(case_before)
    got = run_on_backend(backend, case_after)
    judge = Judge(case_after)
    value = symmetry.value(before.value, case)
    judgements = [judge.judge(f"value ({symmetry.name})", got.value, lambda r: r.value, expected=value)]
    for i, (name, d) in enumerate(before.gradients.items()):
        expected = d if i else symmetry.gradient(d, case)
        what = f"gradient of {name} (the value is {symmetry.name})"
        judgements.append(
            judge.judge(what, got.gradients[name], lambda r, n=name: r.gradients[n], expected=expected)  # type: ignore[misc]
        )
    judgement = replace(combine_judgements(judgements), case=case_after)
    if judgement.verdict == "disagree" and not is_symmetric(case, symmetry):
        return Judgement("agree", f"here the value is not {symmetry.name}", informative=False)
    if judgement.verdict == "disagree" and _is_right(case_before, before) and _is_right(case_after, got):
        return Judgement("agree", "each result is as near to the spec as it must be", informative=False)
    return judgement


def _is_right(case: Case, result: Result) -> bool:
    """Return whether a result may be that of a case.

    Two right results may be further apart than the allowed distance of one suggests: where one of two orders
    underflows on the way, a result is 0, of which no digit can be lost.
    """
    judge = Judge(case)
    verdicts = judge.judge_value(result.value), judge.judge_gradients(result.gradients)
    return all(judgement.verdict != "disagree" for judgement in verdicts)
