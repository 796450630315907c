"""Is each gradient right where other arguments are constants?"""

from dataclasses import replace

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import value_and_pullback
from gradspec.properties.judging.judge import Judge, Judgement, combine_judgements


def other_arguments_may_be_constants(backend: Backend, case: Case) -> Judgement:
    """The gradient by each argument alone, and by all but each, is the spec's: which are asked for makes no difference."""
    judge, free = Judge(case), case.differentiable_inputs
    parts = [(i,) for i in free] + [tuple(j for j in free if j != i) for i in free if len(free) > 2]
    judgements = []
    for part in parts if len(free) > 1 else ():
        held = " and ".join(case.op.argument_name(i) for i in free if i not in part)
        _, pull = value_and_pullback(backend, case, part)
        judgement = judge.judge_gradients(pull(case.cotangent))
        judgements.append(replace(judgement, reason=f"with {held} constant, {judgement.reason}"))
    return combine_judgements(judgements)
