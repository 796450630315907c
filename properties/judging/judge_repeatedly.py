"""Reproducing a failure in a fresh process, where it may take luck or earlier calls to happen again."""

import time
from dataclasses import replace
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.attempt import Law, judge_case
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.judging.own_process import judge_case_in_own_process
from gradspec.reference.domains import Interval
from gradspec.reference.rule import Array

REPRODUCE_SECONDS = 3.0
MAX_REPRODUCE_TRIES = 300  # what goes wrong once in fifty calls is missed once in 400 times
MAX_CRASH_TRIES = 10  # each takes a process of its own


def judge_case_repeatedly(law: Law, backend: Backend, case: Any) -> Judgement:
    """Judge a case by a law; if nothing is wrong, judge it again and again, with other cases in between.

    A backend that remembers earlier calls, by their shape or their place in memory, or that is right most of
    the time, passes a single call. The cases in between differ in their numbers alone, and a right backend
    satisfies the law on them too.
    """
    first = judge_case(law, backend, case)
    end = time.monotonic() + REPRODUCE_SECONDS
    for k in range(0 if first.verdict in ("disagree", "lossy") else MAX_REPRODUCE_TRIES):
        judgement = judge_case(law, backend, case if k % 2 else vary_case(case, k))
        if judgement.verdict == "disagree":
            when = f"not at first, but in try {k + 2}, after tries with other numbers"
            reason = f"{judgement.reason}\n  {when}: it is nondeterministic, or depends on earlier calls"
            return replace(judgement, reason=reason)
        if time.monotonic() > end:
            break
    return first


def judge_crash_repeatedly(law: Law, source: str, case: Any, seconds: float) -> tuple[Judgement, int]:
    """Judge a case that crashed or hung, each time in a process of its own, until the law is broken.

    Args:
        law: The law.
        source: The name to load the backend by.
        case: The case.
        seconds: After how long a check is given up, and no other one is begun.

    Returns:
        The last judgement, and the number of tries.
    """
    end = time.monotonic() + seconds
    judgement, tries = _judge_apart(law, source, case, seconds), 1
    while judgement.verdict not in ("disagree", "declined") and tries < MAX_CRASH_TRIES:
        if time.monotonic() > end:
            break
        judgement, tries = _judge_apart(law, source, case, seconds), tries + 1
    return judgement, tries


def _judge_apart(law: Law, source: str, case: Any, seconds: float) -> Judgement:
    """Judge a case in a process of its own."""
    return judge_case_in_own_process(law, source, case, seconds)


def vary_case(case: Any, k: int) -> Any:
    """Return the k-th variation of a case: other numbers in the same shapes, or a program of another seed.

    A case that has none is returned as it is: one without a seed, and a smooth one whose variation is not
    smooth.
    """
    if not isinstance(case, Case):
        return replace(case, seed=case.seed + k + 1) if hasattr(case, "seed") else case
    other = replace(case, cotangent=_vary_values(case.cotangent, Interval(), k))
    for i, x in enumerate(case.inputs):
        domain = case.op.domain(i)
        if isinstance(domain, Interval) and x.dtype.kind not in "biu":
            other = other.with_input(i, _vary_values(x, domain, k))
    return other if other.is_smooth or not case.is_smooth else case


def _vary_values(x: Array, domain: Interval, k: int) -> Array:
    """Return x with other numbers wherever these stay in the domain."""
    steps = (np.arange(x.size).reshape(x.shape) % 3 + k % 5) / 8
    with np.errstate(all="ignore"):
        new = (x.astype(np.float64) * 1.25 + steps).astype(x.dtype)
    inside = np.reshape([float(v) in domain for v in new.reshape(-1)], x.shape).astype(np.bool_)
    return np.where(inside, new, x)
