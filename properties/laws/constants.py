"""Is each gradient right where other arguments are constants?

Does not see: the value, anything at kinks, second derivatives, whether the gradient of a constant is computed
in vain, or, of four arguments or more, other choices than one constant or all but one.
"""

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import value_and_pullback
from gradspec.properties.judging.judge import Judge, Judgement, combine_judgements
from gradspec.properties.judging.judgement import Severity, describe_circumstances

SEVERITY: Severity = "wrong"


def other_arguments_may_be_constants(backend: Backend, case: Case) -> Judgement:
    """Judge the gradients when they are asked of one argument alone, and of all but one.

    They must be the spec's: which gradients are asked for makes no difference.
    """
    judge, inputs = Judge(case), case.differentiable_inputs
    choices: list[tuple[int, ...]] = [(i,) for i in inputs]
    if len(inputs) > 2:
        choices += [tuple(j for j in inputs if j != i) for i in inputs]
    judgements = []
    for wrt in choices if len(inputs) > 1 else ():
        constants = " and ".join(case.op.argument_name(i) for i in inputs if i not in wrt)
        _, pull = value_and_pullback(backend, case, wrt)
        judgement = judge.judge_gradients(pull(case.cotangent))
        judgements.append(describe_circumstances(judgement, f"with {constants} constant"))
    return combine_judgements(judgements)
