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

from gradspec.backends import Backend, Unavailable
from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import run_on_backend
from gradspec.properties.cases.literals import format_as_numpy
from gradspec.properties.judging.attempt import Law
from gradspec.properties.judging.judge import Judge, Judgement
from gradspec.properties.judging.judge_repeatedly import judge_case_repeatedly, judge_crash_repeatedly
from gradspec.properties.judging.judgement import WrongElement, get_declared_severity
from gradspec.properties.judging.severity import classify_severity
from gradspec.properties.judging.shown_cases import describe_calls, describe_difference, find_shown_case
from gradspec.reference.rule import Array

TROUBLE = 2
"""The exit status of a script that could not judge its case."""


class NoCrashError(Exception):
    """What crashed or hung does so no longer, in as many tries as the message says."""


def reproduce(
    law: Law,
    backend: Backend | str,
    case: Any,
    *,
    failing: Collection[str] = ("disagree",),
    seconds: float = 60.0,
) -> NoReturn:
    """Judge a case by a law once more, print all about it, and end the process.

    The exit status is 1 if the law is still broken, 0 if it is not, and 2 if there is no telling, as of a
    crash that does not come again. The last line starts with the severity, or with the verdict. The process
    ends at once, whatever threads of the library are left.

    Args:
        law: The law.
        backend: The backend; the name to load it by where its check may never end, or end its process. It
            is loaded in a process of its own then, and never in this one.
        case: The case.
        failing: The verdicts by which the law is broken.
        seconds: After how long a check in a process of its own is given up.
    """
    status = TROUBLE
    try:
        shown = find_shown_case(law, case)
        for line in describe_calls(law, backend, shown):
            print(line, flush=True)
        if isinstance(backend, Backend):
            judgement = judge_case_repeatedly(law, backend, case)
        else:
            judgement, tries = judge_crash_repeatedly(law, backend, case, seconds)
            if judgement.verdict not in (*failing, "declined"):
                raise NoCrashError(
                    f"it crashed or hung when it was found, but not in {tries} tries: "
                    "it does so at times, or has been fixed"
                )
        if judgement.case is not None:
            print(*describe_difference(law, backend, judgement.case, shown), sep="\n")
        for line in describe_wrong_results(law, backend, case, judgement):
            print(line)
        said = classify_severity(law, case, judgement) or judgement.verdict, judgement.reason
        print(*filter(None, said), sep=": ")
        status = int(judgement.verdict in failing)
    except (NoCrashError, Unavailable) as error:
        print("undecidable", error, sep=": ")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def describe_wrong_results(law: Law, backend: Backend | str, case: Any, judgement: Judgement) -> list[str]:
    """Return what was expected and got of each result that is not the spec's, as NumPy literals.

    Where what breaks a law is no result of this one call, such as a second derivative, or the backend is not
    loaded here, it is the element that the judgement is about. At a kink, where more than one gradient is
    right, it is what all are, and one that is right. Else, where the judgement is about no element, it is
    nothing.
    """
    wrong = judgement.wrong
    if judgement.raised or (wrong is None and not isinstance(case, Case)):
        return []
    of_call = []
    if isinstance(case, Case) and judgement.case is None and not (wrong and wrong.how):
        arguments = map(case.op.argument_name, case.differentiable_inputs)
        of_call = ["value", *(f"gradient of {name}" for name in arguments)]
    if not isinstance(backend, Backend) and wrong is None:
        return []
    if wrong is not None and (wrong.what not in of_call or not isinstance(backend, Backend)):
        place = f" at {wrong.at}" if wrong.at else ""
        how = f", {wrong.how}" if wrong.how else ""
        direction = [f"v = {wrong.direction}"] if wrong.direction else []
        return [*direction, f"# {wrong.what}{place}{how}: expected {wrong.expected:.9g}, got {wrong.got:.9g}"]
    is_at_kink = judgement.verdict == "disagree" and get_declared_severity(law) in ("wrong", "edge")
    if isinstance(backend, str) or (wrong is None and not is_at_kink):
        return []
    if wrong is None and (case.is_smooth or not case.op.differentiable):
        return []
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"), backend.poisoned():
            got, judge = run_on_backend(backend, case), Judge(case)
            exact = judge.exact
            results = [(f"gradient of {n}", d, exact.gradients[n]) for n, d in got.gradients.items()]
            if wrong is None:
                return [
                    line
                    for what, d, right in results
                    for line in _format_result(
                        what, d, _round(right, case.dtype), ("legal, e.g.,", "got          ")
                    )
                ]
            return [
                line
                for what, x, expected in [("value", got.value, exact.value), *results]
                if what == wrong.what or _is_wrong(judge, what, x)
                for line in _format_result(what, x, _round(expected, case.dtype), wrong=wrong)
            ]
    except Exception:  # then the reason says it
        return []


def _is_wrong(judge: Judge, what: str, x: Array) -> bool:
    is_value, argument = what == "value", what.removeprefix("gradient of ")
    judgement = judge.judge_value(x) if is_value else judge.judge_gradient(argument, x)
    return judgement.verdict in ("disagree", "lossy")


def _round(exact: Array, dtype: str) -> Array:
    return exact if exact.dtype.kind in "biu" else exact.astype(dtype_of(dtype))


def _format_result(
    what: str,
    got: Array,
    expected: Array,
    words: tuple[str, str] = ("expected", "got     "),
    wrong: WrongElement | None = None,
) -> list[str]:
    """Return two lines, with both arrays, or with one element of them if they are too long to be written."""
    texts = format_as_numpy(expected), format_as_numpy(got)
    if None in texts:
        if got.shape != expected.shape:
            return []
        if wrong is not None and wrong.what == what:
            at = wrong.at
        else:
            off = np.abs(got.astype(np.float64) - expected.astype(np.float64))
            worst = np.argmax(np.where(np.isnan(off), np.inf, off))
            at = tuple(map(int, np.unravel_index(worst, off.shape)))
        what = f"{what} at {at}"
        texts = format_as_numpy(expected[at]), format_as_numpy(got[at])
    head = f"# {what}: "
    return [f"{head}{words[0]} {texts[0]}", f"#{' ' * (len(head) - 1)}{words[1]} {texts[1]}"]
