"""Is each gradient right where one array is given for two arguments, as in x * x?

A backend that tells its inputs apart by identity takes both for one leaf, and may give both the sum of their
gradients, or the gradient of one of them twice.

Does not see: the value, ops with kinks (equal numbers may tie there), second derivatives, one array for three
arguments, or arrays that share memory without being the same.
"""

from dataclasses import replace
from itertools import combinations

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import call_backend_vjp
from gradspec.properties.judging.judge import Judge, Judgement
from gradspec.properties.judging.judgement import Severity, describe_circumstances

SEVERITY: Severity = "wrong"


def one_array_may_be_given_twice(backend: Backend, case: Case) -> Judgement:
    """Judge the gradients of a case when one array of the backend stands for the first two alike inputs."""
    alike = find_alike(case)
    if alike is None:
        return Judgement("agree", "no two inputs are alike", informative=False)
    i, j = alike
    case = case.with_input(j, case.inputs[i])
    arrays, _ = case.to_backend_arrays(backend)
    arrays = [arrays[i] if k == j else x for k, x in enumerate(arrays)]
    _, pullback = call_backend_vjp(backend, case, arrays)
    gradients = pullback(backend.from_numpy(case.cotangent))
    names = [case.op.argument_name(k) for k in case.differentiable_inputs]
    judgement = Judge(case).judge_gradients(
        {name: backend.to_numpy(d) for name, d in zip(names, gradients, strict=True)}
    )
    both = f"{case.op.argument_name(i)} and {case.op.argument_name(j)}"
    return replace(describe_circumstances(judgement, f"with one array for {both}"), case=case)


def find_alike(case: Case) -> tuple[int, int] | None:
    """Return the numbers of the first two differentiable inputs of one shape and domain; None without any."""
    kinds = [(x.shape, x.dtype, case.op.domain(i)) for i, x in enumerate(case.inputs)]
    pairs = combinations(case.differentiable_inputs, 2)
    return next(((i, j) for i, j in pairs if kinds[i] == kinds[j]), None)
