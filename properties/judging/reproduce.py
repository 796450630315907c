"""What the script of a failure does: print the call, judge it, print what came of it, and end.

The call and the results are printed as NumPy literals, to be pasted into a report to the authors of the
library, who need not know gradspec.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Collection
from typing import Any, NoReturn

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import run_on_backend
from gradspec.properties.cases.literals import format_as_numpy, literal
from gradspec.properties.judging.attempt import CrashOrTimeout, Law, judge_case_in_fork
from gradspec.properties.judging.function_names import find_function_name
from gradspec.properties.judging.judge import Judge, Judgement
from gradspec.properties.judging.judge_repeatedly import judge_case_repeatedly
from gradspec.reference.rule import Array

TROUBLE = 2
"""The exit status of a script that could not judge its case."""


def reproduce(
    law: Law,
    backend: Backend,
    case: Any,
    *,
    failing: Collection[str] = ("disagree",),
    seconds: float | None = None,
) -> NoReturn:
    """Judge a case by a law once more, print all about it, and end the process.

    The exit status is 1 if the law is still broken, 0 if it is not, and 2 if there is no telling. The process
    ends at once, whatever threads of the library are left.

    Args:
        law: The law.
        backend: The backend.
        case: The case.
        failing: The verdicts by which the law is broken.
        seconds: After how long a check that may never end, or end its process, is given up: it gets a process
            of its own. None for a check in this process.
    """
    status = TROUBLE
    try:
        for line in describe_call(backend, case):
            print(line, flush=True)
        if seconds is None:
            judgement = judge_case_repeatedly(law, backend, case)
        else:
            judgement = judge_case_in_fork(law, backend, case, seconds)
        for line in describe_wrong_results(backend, case, judgement):
            print(line)
        print(judgement.verdict, judgement.reason, sep=": ")
        status = int(judgement.verdict in failing)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def describe_call(backend: Backend, case: Any) -> list[str]:
    """Return the arrays of a case as NumPy literals, and below them the call; nothing of a program."""
    if not isinstance(case, Case):
        return []
    names = [case.op.argument_name(i).replace("[", "_").rstrip("]") for i in range(len(case.inputs))]
    layouts = case.layouts or ("C",) * (len(names) + 1)
    lines = ["import numpy as np"] + ["import ml_dtypes"] * (case.dtype == "bfloat16")
    for name, x, layout in zip([*names, "cotangent"], (*case.inputs, case.cotangent), layouts, strict=True):
        lines.append(f"{name} = {format_as_numpy(x)}" + (f"  # {layout}" if layout != "C" else ""))
    function = find_function_name(backend.ops[case.op.name], type(backend.from_numpy(np.zeros(()))))
    arrays = f"({', '.join(names)}{',' * (len(names) == 1)})" if case.op.variadic else ", ".join(names)
    keywords = [f"{k}={literal(v)}" for k, v in case.keywords.items()]
    call = f"{function or case.op.name}({', '.join([arrays, *keywords])})"
    where = "" if function else f", the {case.op.name} of {backend.name}"
    return [*lines, f"# {call}{where}"]


def describe_wrong_results(backend: Backend, case: Any, judgement: Judgement) -> list[str]:
    """Return what was expected and got of each result that is not the spec's, as NumPy literals.

    Where what breaks a law is no result of this one call, such as a second derivative, it is the element that
    the judgement is about; nothing where it is not about one.
    """
    wrong = judgement.wrong
    if not isinstance(case, Case) or isinstance(judgement, CrashOrTimeout) or wrong is None:
        return []
    of_call = ["value", *(f"gradient of {case.op.argument_name(i)}" for i in case.differentiable_inputs)]
    if wrong.what not in of_call:
        place = f" at {wrong.at}" if wrong.at else ""
        direction = [f"v = {wrong.direction}"] if wrong.direction else []
        return [*direction, f"# {wrong.what}{place}: expected {wrong.expected:.9g}, got {wrong.got:.9g}"]
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"), backend.poisoned():
            got, judge = run_on_backend(backend, case), Judge(case)
            exact = judge.exact
            results = [("value", got.value, exact.value)]
            results += [(f"gradient of {n}", d, exact.gradients[n]) for n, d in got.gradients.items()]
            return [
                line
                for what, x, expected in results
                if what == wrong.what or _is_wrong(judge, what, x)
                for line in _format_result(what, x, _round(expected, case.dtype))
            ]
    except Exception:  # then the reason says it
        return []


def _is_wrong(judge: Judge, what: str, x: Array) -> bool:
    is_value, argument = what == "value", what.removeprefix("gradient of ")
    judgement = judge.judge_value(x) if is_value else judge.judge_gradient(argument, x)
    return judgement.verdict in ("disagree", "lossy")


def _round(exact: Array, dtype: str) -> Array:
    return exact if exact.dtype.kind in "biu" else exact.astype(dtype_of(dtype))


def _format_result(what: str, got: Array, expected: Array) -> list[str]:
    head = f"# {what}: "
    return [
        f"{head}expected {format_as_numpy(expected)}",
        f"#{' ' * (len(head) - 1)}got      {format_as_numpy(got)}",
    ]
