"""Do value and gradients have the shape and dtype that they must have?

Does not see: whether the numbers are right, the width of integers, or a dtype that `to_numpy` of the backend
hides.
"""

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import differentiate, forward
from gradspec.properties.judging.judge import Judge, Judgement, combine_judgements
from gradspec.properties.judging.judgement import Severity
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"


def shapes_and_dtypes_are_kept(backend: Backend, case: Case) -> Judgement:
    """Judge whether the value has the spec's shape and the case's dtype, and each gradient its argument's."""
    judgements = [judge_value_shape_and_dtype(case, forward(backend, case))]
    if case.op.differentiable:
        result = differentiate(backend, case)
        judgements.append(judge_value_shape_and_dtype(case, result.value))
        for i in case.differentiable_inputs:
            name = case.op.argument_name(i)
            judgements.append(
                judge_shape_and_dtype(f"gradient of {name}", result.gradients[name], case.inputs[i])
            )
    return combine_judgements(judgements)


def judge_value_shape_and_dtype(case: Case, got: Array) -> Judgement:
    """Judge whether `got` has the shape and dtype of the spec's value.

    Where the spec's value is of floats, the dtype must be that of the case.
    """
    exact = Judge(case).exact.value
    like = exact if exact.dtype.kind in "biu" else exact.astype(dtype_of(case.dtype))
    return judge_shape_and_dtype("value", got, like)


def judge_shape_and_dtype(what: str, got: Array, like: Array) -> Judgement:
    """Judge whether `got` has the shape and dtype of `like`; integers may be of any width."""
    if got.shape != like.shape:
        return Judgement("disagree", f"the {what} has shape {got.shape}, not {like.shape}")
    if got.dtype != like.dtype and not (got.dtype.kind == like.dtype.kind == "i"):
        return Judgement("disagree", f"the {what} has dtype {got.dtype}, not {like.dtype}")
    return Judgement("agree")
